package workload

import (
	"fmt"
	"math/rand/v2"
	"strings"

	"github.com/tocsin-io/tocsin/rules"
	"github.com/tocsin-io/tocsin/schemas"
)

// Event is an event and the log source that it is of.
type Event struct {
	LogSource rules.LogSource
	Event     schemas.Event
}

// Mixed returns n events such as the SigmaHQ rules are for: half of them Windows
// process creations, the rest of a dozen other log sources; one in a hundred is
// something that a rule looks for.
func Mixed(n int) []Event {
	r := rand.New(rand.NewPCG(1, 2))
	pick := func(list ...string) string { return list[r.IntN(len(list))] }
	processes := []struct{ image, name, command, parent, parentCommand, user, integrity string }{
		{`C:\\Windows\\System32\\svchost.exe`, "svchost.exe", `C:\\Windows\\System32\\svchost.exe -k netsvcs -p -s Schedule`, `C:\\Windows\\System32\\services.exe`, `C:\\Windows\\System32\\services.exe`, `NT AUTHORITY\\SYSTEM`, "System"},
		{`C:\\Program Files\\Google\\Chrome\\Application\\chrome.exe`, "chrome.exe", `\"C:\\Program Files\\Google\\Chrome\\Application\\chrome.exe\" --type=renderer --lang=en-US --device-scale-factor=1 --num-raster-threads=4`, `C:\\Program Files\\Google\\Chrome\\Application\\chrome.exe`, `\"C:\\Program Files\\Google\\Chrome\\Application\\chrome.exe\"`, `ACME\\alice`, "Medium"},
		{`C:\\Windows\\System32\\taskhostw.exe`, "taskhostw.exe", `taskhostw.exe SYSTEM`, `C:\\Windows\\System32\\svchost.exe`, `C:\\Windows\\System32\\svchost.exe -k netsvcs -p -s Schedule`, `NT AUTHORITY\\SYSTEM`, "System"},
		{`C:\\Program Files\\Git\\cmd\\git.exe`, "git.exe", `git.exe status --porcelain`, `C:\\Program Files\\Microsoft VS Code\\Code.exe`, `\"C:\\Program Files\\Microsoft VS Code\\Code.exe\" --type=extensionHost`, `ACME\\bob`, "Medium"},
		{`C:\\Windows\\System32\\cmd.exe`, "Cmd.Exe", `C:\\Windows\\system32\\cmd.exe /d /s /c \"npm run build\"`, `C:\\Program Files\\Microsoft VS Code\\Code.exe`, `\"C:\\Program Files\\Microsoft VS Code\\Code.exe\" --type=extensionHost`, `ACME\\bob`, "Medium"},
		{`C:\\Windows\\System32\\conhost.exe`, "CONHOST.EXE", `\\??\\C:\\Windows\\system32\\conhost.exe 0xffffffff -ForceV1`, `C:\\Windows\\System32\\cmd.exe`, `C:\\Windows\\system32\\cmd.exe /d /s /c \"npm run build\"`, `ACME\\bob`, "Medium"},
		{`C:\\Windows\\System32\\backgroundTaskHost.exe`, "backgroundTaskHost.exe", `\"C:\\Windows\\system32\\backgroundTaskHost.exe\" -ServerName:App.AppXmtcan0h2tfbfy7k9kn8hbxb6dmzz1zh0.mca`, `C:\\Windows\\System32\\svchost.exe`, `C:\\Windows\\System32\\svchost.exe -k DcomLaunch -p`, `ACME\\alice`, "Medium"},
		{`C:\\Program Files\\Microsoft Office\\root\\Office16\\OUTLOOK.EXE`, "Outlook.exe", `\"OUTLOOK.EXE\" /recycle`, `C:\\Windows\\explorer.exe`, `C:\\Windows\\Explorer.EXE`, `ACME\\alice`, "Medium"},
	}
	image := func() string { return processes[r.IntN(len(processes))].image }
	events := make([]Event, n)
	for i := range events {
		var ls rules.LogSource
		var msg string
		user := pick("ACME\\\\alice", "ACME\\\\bob", "NT AUTHORITY\\\\SYSTEM")
		host := fmt.Sprintf("ws-%04d.acme.example", r.IntN(2000))
		at := fmt.Sprintf("2026-11-20 10:%02d:%02d.%03d", r.IntN(60), r.IntN(60), r.IntN(1000))
		switch k := r.IntN(100); {
		case k < 1:
			ls = rules.LogSource{Product: "windows", Category: "process_creation"}
			msg = fmt.Sprintf(`{"EventID":1,"UtcTime":"%s","Computer":"%s","Image":"C:\\Windows\\System32\\whoami.exe","OriginalFileName":"whoami.exe","CommandLine":"whoami /all","ParentImage":"C:\\Windows\\System32\\cmd.exe","User":"%s"}`, at, host, user)
		case k < 50:
			p := &processes[r.IntN(len(processes))]
			ls = rules.LogSource{Product: "windows", Category: "process_creation"}
			msg = fmt.Sprintf(`{"EventID":1,"UtcTime":"%s","Computer":"%s","ProcessGuid":"{5770385f-c22a-43e0-bf4c-%012x}","ProcessId":%d,"Image":"%s","FileVersion":"10.0.19041.1","Description":"Host Process","Product":"Operating System","Company":"Example Corporation","OriginalFileName":"%s","CommandLine":"%s","CurrentDirectory":"C:\\Users\\alice\\","User":"%s","LogonId":"0x3e7","IntegrityLevel":"%s","Hashes":"MD5=%032X,SHA256=%064X","ParentProcessId":%d,"ParentImage":"%s","ParentCommandLine":"%s"}`,
				at, host, r.Uint64N(1<<48), r.IntN(20000), p.image, p.name, p.command, p.user, p.integrity, r.Uint64(), r.Uint64(), r.IntN(20000), p.parent, p.parentCommand)
		case k < 58:
			ls = rules.LogSource{Product: "windows", Category: "image_load"}
			msg = fmt.Sprintf(`{"EventID":7,"UtcTime":"%s","Computer":"%s","Image":"%s","ImageLoaded":"C:\\Windows\\System32\\%s.dll","Signed":"true","Signature":"Example Windows","SignatureStatus":"Valid","User":"%s"}`, at, host, image(), pick("kernel32", "user32", "advapi32", "sechost", "ucrtbase"), user)
		case k < 66:
			ls = rules.LogSource{Product: "windows", Category: "registry_set"}
			msg = fmt.Sprintf(`{"EventID":13,"EventType":"SetValue","UtcTime":"%s","Computer":"%s","Image":"%s","TargetObject":"HKU\\S-1-5-21-1\\Software\\Example\\Office\\16.0\\%s","Details":"DWORD (0x%08x)","User":"%s"}`, at, host, image(), pick("Common\\\\Roaming", "Outlook\\\\Profile", "Word\\\\MRU"), r.Uint32(), user)
		case k < 72:
			ls = rules.LogSource{Product: "windows", Category: "network_connection"}
			msg = fmt.Sprintf(`{"EventID":3,"UtcTime":"%s","Computer":"%s","Image":"%s","User":"%s","Protocol":"tcp","Initiated":"true","SourceIp":"10.1.%d.%d","SourcePort":%d,"DestinationIp":"198.51.100.%d","DestinationHostname":"cdn.example.net","DestinationPort":443}`, at, host, processes[1].image, user, r.IntN(255), r.IntN(255), 40000+r.IntN(20000), r.IntN(255))
		case k < 78:
			ls = rules.LogSource{Product: "windows", Category: "file_event"}
			msg = fmt.Sprintf(`{"EventID":11,"UtcTime":"%s","Computer":"%s","Image":"%s","TargetFilename":"C:\\Users\\alice\\AppData\\Local\\Example\\Cache\\%08x.json","User":"%s"}`, at, host, processes[1].image, r.Uint32(), user)
		case k < 84:
			ls = rules.LogSource{Product: "windows", Service: "security"}
			msg = fmt.Sprintf(`{"EventID":%s,"TimeCreated":"%s","Computer":"%s","SubjectUserName":"%s$","TargetUserName":"alice","LogonType":3,"IpAddress":"10.0.0.%d","AuthenticationPackageName":"Kerberos","Status":"0x0"}`, pick("4624", "4658", "5156"), at, host, strings.ToUpper(host[:7]), r.IntN(255))
		case k < 88:
			ls = rules.LogSource{Product: "linux", Category: "process_creation"}
			msg = fmt.Sprintf(`{"UtcTime":"%s","Computer":"%s","Image":"/usr/bin/%s","CommandLine":"%s","CurrentDirectory":"/srv/app","User":"www-data","ParentImage":"/usr/sbin/cron","ParentCommandLine":"cron -f"}`, at, host, pick("python3", "dash", "date", "sed"), pick("python3 manage.py migrate", "sh -c run-parts --report /srv/jobs", "date +%s", "sed s,a,b,"))
		case k < 92:
			ls = rules.LogSource{Product: "windows", Category: "ps_script"}
			msg = fmt.Sprintf(`{"EventID":4104,"TimeCreated":"%s","Computer":"%s","ScriptBlockText":"function Get-Inventory { param([string]$Name) $items = Get-ChildItem -Path C:\\\\data -Filter *.csv; foreach ($i in $items) { Write-Output \"$Name: $($i.FullName)\" } }\nGet-Inventory -Name %04x","Path":"C:\\scripts\\inventory.ps1"}`, at, host, r.Uint32N(65536))
		case k < 95:
			ls = rules.LogSource{Product: "aws", Service: "cloudtrail"}
			msg = fmt.Sprintf(`{"eventVersion":"1.09","userIdentity":{"type":"AssumedRole","principalId":"AROAEXAMPLE:ci","arn":"arn:aws:sts::111122223333:assumed-role/ci/ci","accountId":"111122223333","sessionContext":{"attributes":{"mfaAuthenticated":"false"}}},"eventTime":"%s","eventSource":"%s.amazonaws.com","eventName":"%s","awsRegion":"eu-west-1","sourceIPAddress":"198.51.100.%d","userAgent":"aws-sdk-go-v2/1.30","requestParameters":{"maxResults":100},"responseElements":null,"readOnly":true}`, at, pick("ec2", "s3", "iot", "ecs"), pick("DescribeInstances", "ListBuckets", "DescribeEndpoint", "ListTasks"), r.IntN(255))
		case k < 98:
			ls = rules.LogSource{Category: "webserver"}
			msg = fmt.Sprintf(`{"time":"%s","c-ip":"198.51.100.%d","cs-method":"GET","cs-uri-stem":"/static/app.%08x.js","cs-uri-query":"v=%d","sc-status":200,"cs-user-agent":"Mozilla/5.0 (X11; Linux x86_64)"}`, at, r.IntN(255), r.Uint32(), r.IntN(100))
		default:
			ls = rules.LogSource{Category: "dns_query", Product: "windows"}
			msg = fmt.Sprintf(`{"EventID":22,"UtcTime":"%s","Computer":"%s","QueryName":"cdn%d.example.net","QueryStatus":"0","QueryResults":"198.51.100.7;","Image":"%s"}`, at, host, r.IntN(100), processes[1].image)
		}
		events[i] = Event{ls, schemas.Event{Source: []byte(schemas.SourceGeneric), Message: []byte(msg)}}
	}
	return events
}

// IoT returns n records of a healthy fleet, about 450 bytes each.
func IoT(n int) []schemas.Event {
	r := rand.New(rand.NewPCG(3, 4))
	events := make([]schemas.Event, n)
	for i := range events {
		device := fmt.Sprintf("pump-%05d", r.IntN(100_000))
		cert := fmt.Sprintf("%016x%016x%016x%016x", r.Uint64(), r.Uint64(), r.Uint64(), r.Uint64())
		kind := []string{"Publish-In", "Publish-In", "Publish-In", "Publish-Out", "Connect", "Disconnect", "Subscribe", "Ping"}[r.IntN(8)]
		msg := fmt.Sprintf(`{"timestamp":"2026-11-20 10:%02d:%02d.%03d","logLevel":"INFO","traceId":"%08x-2222-3333-4444-%012x","accountId":"111122223333","status":"Success","eventType":"%s","protocol":"MQTT","topicName":"fleet/%s/telemetry","clientId":"%s","principalId":"%s","sourceIp":"198.51.%d.%d","sourcePort":%d,"details":"Publish to topic was delivered to the rules engine"}`,
			r.IntN(60), r.IntN(60), r.IntN(1000), r.Uint32(), r.Uint64N(1<<48), kind, device, device, cert, r.IntN(255), r.IntN(255), 40000+r.IntN(20000))
		events[i] = schemas.Event{
			Source: []byte(schemas.SourceIoT), Type: []byte(kind), Device: []byte(device), ClientID: []byte(device),
			CertificateID: []byte(cert), Account: []byte("111122223333"), Outcome: schemas.OutcomeSuccess, Message: []byte(msg),
		}
	}
	return events
}

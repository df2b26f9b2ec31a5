package deploy

import (
	"encoding/json"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"maps"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/tocsin-io/tocsin/sinks/awsiot"
)

// policy is an IAM policy document.
type policy struct {
	Version   string
	Statement []struct {
		Sid, Effect string
		Action      texts
		Resource    texts
	}
}

// texts is a text or a list of them.
type texts []string

func (s *texts) UnmarshalJSON(b []byte) error {
	var one string
	if json.Unmarshal(b, &one) == nil {
		*s = texts{one}
		return nil
	}
	return json.Unmarshal(b, (*[]string)(s))
}

// notCalled are actions that no call of ours names: AWS asks for them because of
// other calls, or they are Kafka's.
func notCalled(action string) bool {
	return action == "kms:Decrypt" || action == "kms:GenerateDataKey" || strings.HasPrefix(action, "kafka-cluster:")
}

// prefixes are those of the services in IAM, by the name of the SDK's package.
var prefixes = map[string]string{"iot": "iot", "kinesis": "kinesis", "acmpca": "acm-pca", "s3": "s3"}

// renamed are the operations whose action has another name.
var renamed = map[string]string{"s3:ListObjectsV2": "s3:ListBucket", "s3:HeadBucket": "s3:ListBucket", "s3:HeadObject": "s3:GetObject"}

// testOnly are services that only tests call.
var testOnly = map[string]bool{"cloudwatchlogs": true}

// called returns the actions of all calls in the code below dir, but for the
// folders that are left out: of every operation whose input it builds.
func called(t *testing.T, dir string, without ...string) map[string]bool {
	t.Helper()
	actions := map[string]bool{}
	err := filepath.WalkDir(dir, func(path string, entry fs.DirEntry, err error) error {
		if err == nil && entry.IsDir() && slices.Contains(without, entry.Name()) {
			return fs.SkipDir
		}
		if err != nil || !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") {
			return err
		}
		file, err := parser.ParseFile(token.NewFileSet(), path, nil, 0)
		if err != nil {
			return err
		}
		services := map[string]string{}
		for _, i := range file.Imports {
			name, _ := strconv.Unquote(i.Path.Value)
			service, ok := strings.CutPrefix(name, "github.com/aws/aws-sdk-go-v2/service/")
			if !ok || strings.Contains(service, "/") || testOnly[service] {
				continue
			}
			if prefixes[service] == "" {
				t.Errorf("%s: no policy knows the service %s", path, service)
			}
			local := service
			if i.Name != nil {
				local = i.Name.Name
			}
			services[local] = prefixes[service]
		}
		ast.Inspect(file, func(n ast.Node) bool {
			s, ok := n.(*ast.SelectorExpr)
			if !ok {
				return true
			}
			pkg, ok := s.X.(*ast.Ident)
			if operation, input := strings.CutSuffix(s.Sel.Name, "Input"); ok && input && services[pkg.Name] != "" {
				action := services[pkg.Name] + ":" + operation
				if other := renamed[action]; other != "" {
					action = other
				}
				actions[action] = true
			}
			return true
		})
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return actions
}

// Every policy allows what the code of its role calls and nothing else, each
// action by its name.
func TestPolicies(t *testing.T) {
	responses := called(t, "../sinks/awsiot")
	for operation := range awsiot.Operations {
		responses["iot:"+operation] = true // DeleteConnection is not called by the SDK
	}
	registry := called(t, "../correlate/identity")
	maps.Copy(registry, called(t, "../internal"))
	all := map[string]map[string]bool{
		"ingest": called(t, "../ingest"), "correlate": called(t, "../correlate", "identity"), "registry": registry, "responses": responses, "msk": {},
	}
	if len(called(t, "../cmd")) > 0 {
		t.Error("cmd calls AWS itself: no policy is for that")
	}
	files, err := filepath.Glob("iam/*.json")
	if err != nil || len(files) != len(all) {
		t.Fatalf("%v, %v", files, err)
	}
	for _, file := range files {
		var p policy
		if err := json.Unmarshal(read(t, file), &p); err != nil {
			t.Fatalf("%s: %v", file, err)
		}
		calls := all[strings.TrimSuffix(filepath.Base(file), ".json")]
		allowed := map[string]bool{}
		for _, s := range p.Statement {
			if s.Effect != "Allow" || s.Sid == "" || len(s.Action) == 0 || len(s.Resource) == 0 {
				t.Errorf("%s: statement %+v", file, s)
			}
			for _, action := range s.Action {
				allowed[action] = true
				if strings.Contains(action, "*") {
					t.Errorf("%s: %s is a wildcard", file, action)
				}
				if !calls[action] && !notCalled(action) {
					t.Errorf("%s allows %s, which nothing calls", file, action)
				}
				list := strings.HasPrefix(action, "iot:List")
				if slices.Contains(s.Resource, "*") && !list {
					t.Errorf("%s: %s is allowed on everything", file, action)
				}
			}
			for _, r := range s.Resource {
				if r != "*" && !strings.HasPrefix(r, "arn:${partition}:") {
					t.Errorf("%s: resource %s", file, r)
				}
			}
		}
		for action := range calls {
			if !allowed[action] {
				t.Errorf("%s does not allow %s", file, action)
			}
		}
	}
}

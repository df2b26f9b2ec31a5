package rules

import (
	"strings"
	"testing"
)

// Each case is one item of a selection, the messages that it matches, and those
// that it does not.
func TestItems(t *testing.T) {
	opts := Options{Placeholders: map[string][]string{
		"admins": {"root", "adm*"}, "one": {"x"}, "p.q-r": {"deep"},
	}}
	for name, c := range map[string]struct {
		item    string
		yes, no []string
	}{
		"equal": {
			`f: Connect`,
			[]string{`{"f":"Connect"}`, `{"f":"cONNECT"}`, `{"f":["a","connect"]}`, `{"f":"\u0043onnect"}`, `{"\u0066":"Connect"}`},
			[]string{`{"f":"Connect "}`, `{"f":"Disconnect"}`, `{"g":"Connect"}`, `{"f":null}`, `{"f":{"f":"Connect"}}`, `{}`, ``, `{"x":{"f":"Connect"}}`},
		},
		"list is or":      {`f: [a, b]`, []string{`{"f":"a"}`, `{"f":"B"}`}, []string{`{"f":"c"}`, `{"f":"ab"}`}},
		"folding":         {`f: STRAẞE Ωmega`, []string{`{"f":"straße ωMEGA"}`, `{"f":"Straße Ωmega"}`}, []string{`{"f":"strasse omega"}`}},
		"folding ASCII":   {`f: kelvin`, []string{`{"f":"\u212aELVIN"}`, "{\"f\":\"\u212aelvin\"}"}, []string{`{"f":"elvin"}`}},
		"folding contain": {`f|contains: ÄÖ`, []string{`{"f":"xäöx"}`, `{"f":"xÄöx"}`}, []string{`{"f":"xaox"}`}},
		"number":          {`f: 1`, []string{`{"f":1}`, `{"f":"1"}`, `{"f":1.0}`, `{"f":1e0}`, `{"f":[0,1]}`}, []string{`{"f":11}`, `{"f":"1.0"}`, `{"f":true}`, `{"f":-1}`}},
		"number spelling": {`f: 0x10`, []string{`{"f":16}`, `{"f":"16"}`}, []string{`{"f":"0x10"}`}},
		"float":           {`f: 1.50`, []string{`{"f":1.5}`, `{"f":"1.5"}`, `{"f":1.50}`, `{"f":15e-1}`}, []string{`{"f":"1.50"}`}},
		"string number":   {`f: '1.50'`, []string{`{"f":1.50}`, `{"f":"1.50"}`}, []string{`{"f":1.5}`}},
		"big number":      {`f: 9007199254740993`, []string{`{"f":9007199254740993}`}, []string{`{"f":9007199254740992}`}},
		"negative zero":   {`f: 0`, []string{`{"f":0}`, `{"f":-0}`, `{"f":0.0}`}, []string{`{"f":null}`, `{"f":""}`}},
		"bool":            {`f: true`, []string{`{"f":true}`, `{"f":"True"}`}, []string{`{"f":false}`, `{"f":1}`}},
		"null":            {`f: null`, []string{`{}`, `{"f":null}`, `{"f":[null]}`, `{"f":[1,null]}`, `not json`}, []string{`{"f":""}`, `{"f":0}`, `{"f":[]}`, `{"f":{}}`}},
		"null in list":    {`f: [null, a]`, []string{`{}`, `{"f":null}`, `{"f":"a"}`}, []string{`{"f":"b"}`}},
		"empty":           {`f: ''`, []string{`{"f":""}`, `{"f":["x",""]}`}, []string{`{}`, `{"f":null}`, `{"f":" "}`, `{"f":[]}`}},
		"any":             {`f: '*'`, []string{`{"f":""}`, `{"f":0}`, `{"f":{}}`, `{"f":false}`}, []string{`{}`, `{"f":null}`, `{"f":[]}`}},
		"at least one":    {`f: '?*'`, []string{`{"f":"ä"}`, `{"f":0}`}, []string{`{"f":""}`, `{}`}},
		"wildcards":       {`f: 'a*b?c'`, []string{`{"f":"ab1c"}`, `{"f":"aXXbäC"}`, `{"f":"abbbc"}`}, []string{`{"f":"abc"}`, `{"f":"ab12c"}`, `{"f":"xab1c"}`}},
		"escaped star":    {`f: 'a\*b'`, []string{`{"f":"a*b"}`}, []string{`{"f":"aXb"}`}},
		"escaped mark":    {`f: 'a\?b'`, []string{`{"f":"a?b"}`}, []string{`{"f":"aXb"}`}},
		"backslash star":  {`f: 'a\\*'`, []string{`{"f":"a\\"}`, `{"f":"a\\b"}`}, []string{`{"f":"a*"}`}},
		"backslash both":  {`f: 'a\\\*'`, []string{`{"f":"a\\*"}`}, []string{`{"f":"a\\b"}`}},
		"plain backslash": {`f: 'a\b\\c'`, []string{`{"f":"a\\b\\c"}`}, []string{`{"f":"a\\b\\\\c"}`}},
		"3 backslashes":   {`f: 'a\\\b'`, []string{`{"f":"a\\\\b"}`}, []string{`{"f":"a\\b"}`}},
		"last backslash":  {`f|contains: '\cmd\'`, []string{`{"f":"C:\\CMD\\x"}`}, []string{`{"f":"C:\\cmd"}`}},

		"contains":        {`f|contains: ell`, []string{`{"f":"hELLo"}`, `{"f":"ell"}`}, []string{`{"f":"el l"}`, `{}`}},
		"contains empty":  {`f|contains: ''`, []string{`{"f":""}`, `{"f":"a"}`}, []string{`{}`, `{"f":null}`}},
		"contains number": {`f|contains: 46`, []string{`{"f":4624}`, `{"f":"x46"}`}, []string{`{"f":4}`}},
		"contains object": {`f|contains: '"Status": "Suspended"'`, []string{`{"f":{"Status": "Suspended"}}`, `{"f":[{"x":1},{"Status": "suspended"}]}`}, []string{`{"f":{"Status":"Suspended"}}`}},
		"startswith":      {`f|startswith: ab`, []string{`{"f":"ABc"}`, `{"f":["x","ab"]}`}, []string{`{"f":"xab"}`, `{"f":"a"}`}},
		"endswith":        {`f|endswith: ab`, []string{`{"f":"xAB"}`, `{"f":"ab"}`}, []string{`{"f":"abx"}`}},
		"many overlaps":   {`f|endswith: ['\b.exe', 'b.exe', 'x']`, []string{`{"f":"a\\b.exe"}`, `{"f":"ab.exe"}`}, []string{`{"f":"b.exe "}`}},
		"all":             {`f|contains|all: [ab, bc]`, []string{`{"f":"abc"}`, `{"f":["ab","bc"]}`}, []string{`{"f":"ab"}`, `{"f":"bc"}`}},
		"cased":           {`f|cased: Ab`, []string{`{"f":"Ab"}`}, []string{`{"f":"ab"}`, `{"f":"AB"}`}},
		"cased contains":  {`f|contains|cased: Ab`, []string{`{"f":"xAbx"}`}, []string{`{"f":"xabx"}`}},
		"cased first":     {`f|cased|endswith: Ab`, []string{`{"f":"xAb"}`}, []string{`{"f":"xab"}`, `{"f":"Abx"}`}},
		"cased wildcard":  {`f|cased: 'A*b?'`, []string{`{"f":"Axxb1"}`}, []string{`{"f":"axxb1"}`}},
		"exists":          {`f|exists: true`, []string{`{"f":null}`, `{"f":""}`, `{"f":[]}`, `{"f":{}}`}, []string{`{}`, `{"g":1}`}},
		"exists no":       {`f|exists: false`, []string{`{}`, `{"g":1}`}, []string{`{"f":null}`, `{"f":1}`}},
		"neq":             {`f|neq: a`, []string{`{"f":"b"}`, `{}`, `{"f":null}`}, []string{`{"f":"A"}`, `{"f":["b","a"]}`}},
		"neq list":        {`f|neq: [a, b]`, []string{`{"f":"c"}`}, []string{`{"f":"a"}`, `{"f":"b"}`}},
		"neq contains":    {`f|contains|neq: a`, []string{`{"f":"b"}`}, []string{`{"f":"bab"}`}},
		"neq all":         {`f|neq|all: [a, b]`, []string{`{"f":"c"}`}, []string{`{"f":"a"}`}},

		"re":        {`f|re: 'a.c'`, []string{`{"f":"xabcx"}`, `{"f":"a\nc abc"}`}, []string{`{"f":"ABC"}`, `{"f":"ac"}`}},
		"re i":      {`f|re|i: 'a.c'`, []string{`{"f":"ABC"}`}, []string{`{"f":"A\nC"}`}},
		"re s":      {`f|re|s: 'a.c'`, []string{`{"f":"a\nc"}`}, []string{`{"f":"ac"}`}},
		"re m":      {`f|re|m: '^b$'`, []string{`{"f":"a\nb\nc"}`}, []string{`{"f":"abc"}`}},
		"re i m s":  {`f|re|i|m|s: '^b.c$'`, []string{`{"f":"a\nB\nC"}`}, []string{`{"f":"ab c"}`}},
		"re list":   {`f|re: ['^a+$', 'literal[0-9]']`, []string{`{"f":"aaa"}`, `{"f":"x literal7"}`}, []string{`{"f":"ab"}`, `{"f":"literal"}`}},
		"re number": {`f|re: '^4.2'`, []string{`{"f":412}`}, []string{`{"f":421}`}},
		"re class":  {`f|re: '[Pp]ro[gG]ram'`, []string{`{"f":"xProgram"}`}, []string{`{"f":"PROGRAM"}`}},
		"re neq":    {`f|re|neq: 'a'`, []string{`{"f":"b"}`, `{}`}, []string{`{"f":"ba"}`}},

		"base64":             {`f|base64: foobar`, []string{`{"f":"Zm9vYmFy"}`}, []string{`{"f":"foobar"}`}},
		"base64 contains":    {`f|base64|contains: foo`, []string{`{"f":"x Zm9v"}`}, []string{`{"f":"Zm9"}`}},
		"base64offset":       {`f|base64offset|contains: foobar`, []string{`{"f":"Zm9vYmFy"}`, `{"f":"eGZvb2Jhcg=="}`, `{"f":"eHhmb29iYXI="}`}, []string{`{"f":"foobar"}`}},
		"wide base64 offset": {`f|wide|base64offset|contains: ping`, []string{`{"f":"cABpAG4AZwA="}`, `{"f":"eHAAaQBuAGcA"}`}, []string{`{"f":"cGluZw=="}`}},
		"utf16le":            {`f|utf16le|base64: a`, []string{`{"f":"YQA="}`}, []string{`{"f":"AGE="}`}},
		"utf16be":            {`f|utf16be|base64: a`, []string{`{"f":"AGE="}`}, []string{`{"f":"YQA="}`}},
		"utf16":              {`f|utf16|base64: a`, []string{`{"f":"//5hAA=="}`}, []string{`{"f":"YQA="}`}},
		"wide text":          {`f|wide|contains: ab`, []string{`{"f":"a\u0000b\u0000"}`}, []string{`{"f":"ab"}`}},
		"windash":            {`f|windash|contains: ' -e '`, []string{`{"f":"x -e y"}`, `{"f":"x /e y"}`, "{\"f\":\"x \u2013e y\"}", "{\"f\":\"x \u2014e y\"}", "{\"f\":\"x \u2015E y\"}"}, []string{`{"f":"x e y"}`, `{"f":"x +e y"}`}},
		"windash slash":      {`f|contains|windash: '/e'`, []string{`{"f":"-e"}`, `{"f":"/e"}`}, []string{`{"f":"e"}`}},
		"windash in word":    {`f|windash: 'a-b'`, []string{`{"f":"a-b"}`}, []string{`{"f":"a/b"}`}},
		"windash many":       {`f|windash: '-a -b -c -d'`, []string{`{"f":"/a -b /c -d"}`, "{\"f\":\"\u2013a -b /c \u2015d\"}"}, []string{`{"f":"+a -b -c -d"}`}},

		"lt":          {`f|lt: 5`, []string{`{"f":4}`, `{"f":"4.9"}`, `{"f":-1e3}`}, []string{`{"f":5}`, `{"f":"x"}`, `{}`, `{"f":true}`, `{"f":""}`}},
		"lte":         {`f|lte: 5`, []string{`{"f":5}`}, []string{`{"f":5.1}`}},
		"gt":          {`f|gt: 5`, []string{`{"f":[1,6]}`}, []string{`{"f":5}`, `{"f":"0x6"}`, `{"f":"Inf"}`}},
		"gte":         {`f|gte: 5.5`, []string{`{"f":5.5}`}, []string{`{"f":5.4}`}},
		"minute":      {`f|minute: 37`, []string{`{"f":"2017-08-10 15:37:23.476"}`, `{"f":"2017-08-10T15:37:23+05:00"}`}, []string{`{"f":"2017-08-10 37:15:23"}`, `{"f":"2017-08-10"}`, `{"f":37}`}},
		"hour":        {`f|hour|gte: 22`, []string{`{"f":"2026-11-20T23:00:00Z"}`, `{"f":1763679600}`, `{"f":"1763679600000"}`}, []string{`{"f":"2026-11-20T21:59:59Z"}`}},
		"day":         {`f|day: 20`, []string{`{"f":"2026-11-20"}`}, []string{`{"f":"2026-11-21"}`}},
		"week":        {`f|week: 1`, []string{`{"f":"2025-12-29"}`}, []string{`{"f":"2025-12-28"}`}},
		"month":       {`f|month: [11, 12]`, []string{`{"f":"2026-11-20"}`}, []string{`{"f":"2026-10-20"}`}},
		"year":        {`f|year|lt: 2026`, []string{`{"f":"2025-01-01"}`}, []string{`{"f":"2026-01-01"}`}},
		"hour neq":    {`f|hour|neq: 3`, []string{`{"f":"2026-11-20T04:00:00Z"}`, `{}`}, []string{`{"f":"2026-11-20T03:00:00Z"}`}},
		"cidr":        {`f|cidr: [10.0.0.0/8, '2001:db8::/32']`, []string{`{"f":"10.1.2.3"}`, `{"f":"2001:DB8::1"}`, `{"f":"::ffff:10.0.0.1"}`, `{"f":["x","10.0.0.1"]}`}, []string{`{"f":"11.0.0.1"}`, `{"f":"10.0.0.1:80"}`, `{"f":"x"}`, `{}`}},
		"cidr one":    {`f|cidr: 10.0.0.1`, []string{`{"f":"10.0.0.1"}`}, []string{`{"f":"10.0.0.2"}`}},
		"expand":      {`f|expand: '%admins%'`, []string{`{"f":"root"}`, `{"f":"administrator"}`}, []string{`{"f":"%admins%"}`, `{"f":"user"}`}},
		"expand part": {`f|contains|expand: 'is-%one%-%p.q-r%'`, []string{`{"f":"this is-x-deep one"}`}, []string{`{"f":"is-x"}`}},
		"expand esc":  {`f|expand: '\%one\%'`, []string{`{"f":"%one%"}`}, []string{`{"f":"x"}`}},
		"no expand":   {`f: '%admins%'`, []string{`{"f":"%admins%"}`}, []string{`{"f":"root"}`}},
		"fieldref":    {`f|fieldref: g`, []string{`{"f":"a","g":"A"}`, `{"f":"a","g":["b","a"]}`, `{"f":1,"g":"1"}`}, []string{`{"f":"a","g":"b"}`, `{"f":"a"}`, `{}`, `{"f":null,"g":null}`}},
		"fieldref neq": {
			`f|fieldref|neq: g`,
			[]string{`{"f":"a","g":"b"}`, `{"f":"a"}`},
			[]string{`{"f":"a","g":"A"}`},
		},
		"fieldref start":    {`f|fieldref|startswith: g`, []string{`{"f":"abc","g":"AB"}`}, []string{`{"f":"xab","g":"ab"}`, `{"f":"a","g":"ab"}`}},
		"fieldref end":      {`f|endswith|fieldref: g`, []string{`{"f":"abc","g":"BC"}`}, []string{`{"f":"abc","g":"ab"}`}},
		"fieldref contains": {`f|contains|fieldref: g`, []string{`{"f":"abc","g":"B"}`}, []string{`{"f":"abc","g":"d"}`}},
		"fieldref cased":    {`f|fieldref|cased: g`, []string{`{"f":"a","g":"a"}`}, []string{`{"f":"a","g":"A"}`}},

		"path":             {`a.b.c: x`, []string{`{"a":{"b":{"c":"x"}}}`, `{"a.b.c":"x"}`, `{"a.b":{"c":"x"}}`, `{"a":{"b.c":"x"}}`, `{"a":[{"b":[{"c":"y"},{"c":["x"]}]}]}`, `[{"a":{"b":{"c":"x"}}}]`}, []string{`{"a":{"c":"x"}}`, `{"b":{"c":"x"}}`, `{"a":"x"}`}},
		"path and object":  {`a|contains: '"b"'`, []string{`{"a":{"b":1}}`}, []string{`{"a":{"c":1}}`}},
		"path through end": {`a.b: null`, []string{`{"a":{}}`, `{"a":1}`, `{"a":{"b":null}}`, `{}`}, []string{`{"a":{"b":1}}`, `{"a":[{},{"b":1}]}`}},
		"duplicate key":    {`f: x`, []string{`{"f":"x","f":"y"}`, `{"f":"y","f":"x"}`}, []string{`{"f":"y","f":"z"}`}},
		"truncated JSON":   {`f: x`, []string{`{"f":"x","g":"unfinis`, `{"f":"x" "g"`}, []string{`{"g":"a`, `{"f":"x`}},
	} {
		t.Run(name, func(t *testing.T) {
			m := compileOK(t, opts, ruleWith("r", "s:\n  "+c.item+"\ncondition: s")).NewMatcher()
			for _, message := range c.yes {
				if !matches(m, message) {
					t.Errorf("%s does not match %s", c.item, message)
				}
			}
			for _, message := range c.no {
				if matches(m, message) {
					t.Errorf("%s matches %s", c.item, message)
				}
			}
		})
	}
}

func TestIllegalItems(t *testing.T) {
	for item, want := range map[string]string{
		`f|contain: a`:                         `9:5: error: unknown modifier "contain"; did you mean "contains"?`,
		`f|xyzzy: a`:                           `known are all, base64`,
		`f|contains|contains: a`:               `modifier "contains" twice`,
		`f|lt: '5'`:                            `lt needs a number, not a string; write a number, without quotes`,
		`f|lt|contains: 5`:                     `contains needs a string, not a comparison`,
		`f|exists: 1`:                          `exists needs a boolean`,
		`f|exists|neq: true`:                   `neq cannot be combined with "exists"`,
		`f|lt|neq: 1`:                          `neq cannot be combined with "lt"`,
		`f|i: a`:                               `flag i without a regular expression`,
		`f|contains|re: a`:                     `re must be the first modifier`,
		`f|re: 'a(?=b)'`:                       `look-around is not in RE2`,
		`f|re: 'a(?<!b)'`:                      `look-around is not in RE2`,
		`f|re: '(a)\1'`:                        `the syntax is RE2's`,
		`f|re: '((a{1,1000}){1,30})'`:          `invalid repeat count`,
		`f|re: '(a.b.c.d.e.f.g.h.i.j.k){999}'`: `instructions, the limit is`,
		`f|cidr: 10.0.0.1/8`:                   `write 10.0.0.0/8`,
		`f|cidr: nonsense`:                     `"nonsense" is not a network`,
		`f|base64: 'a*'`:                       `base64 cannot encode wildcards; put contains after base64`,
		`f|expand: '%unknown%'`:                `no value for placeholder %unknown%`,
		`f|hour: a`:                            `hour needs an integer`,
		`f|contains: null`:                     `null with modifier "contains"`,
		`f: []`:                                `field "f" has no values`,
		`f: {a: b}`:                            `the value of field "f" is a mapping; write the path with dots`,
		`f: [[a]]`:                             `a value is a list`,
		`'': a`:                                `an empty field name`,
		`tocsin.devise: a`:                     `there is no field "tocsin.devise" in the envelope; did you mean "tocsin.device"?`,
		`f: .inf`:                              `is not a finite number`,
		`f|fieldref: 'a*b'`:                    `fieldref needs a field name`,
		`'|exists': true`:                      `a keyword cannot be a boolean`,
		`'|cidr': 10.0.0.0/8`:                  `a keyword cannot be a network`,
		"f: a\n  f: b":                         `key "f" twice; the first is in line`,
		strings.Repeat("a.", 30) + "a: b":      `field name with more than 24 parts`,
	} {
		t.Run(item, func(t *testing.T) {
			set, diags := compileText(Options{}, ruleWith("r", "s:\n  "+item+"\ncondition: s"))
			if diags.Errors() == 0 || !strings.Contains(diags.Err().Error(), want) {
				t.Errorf("got %v, want %q", diags.Err(), want)
			}
			if len(set.Rules) != 0 {
				t.Error("the rule was not left out")
			}
		})
	}
}

package firehose

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestDecodeBody(t *testing.T) {
	ok := func(in, id string, records ...string) {
		t.Helper()
		got, err := decodeBody([]byte(in))
		if err != nil {
			t.Errorf("%s: %v", in, err)
			return
		}
		var have []string
		for _, r := range got.records {
			have = append(have, string(r))
		}
		if diff := cmp.Diff(records, have); diff != "" || got.requestID != id {
			t.Errorf("%s: id %q, records (-want +got):\n%s", in, got.requestID, diff)
		}
	}
	ok(`{"requestId":"a","timestamp":1578090901599,"records":[{"data":"aGVsbG8="},{"data":"d29ybGQ="}]}`, "a", "hello", "world")
	ok(`{"requestId":"a","records":[]}`, "a")
	ok(` { "records" : [ { "data" : "" } , {} ] , "requestId" : "b" } `+"\n", "b", "", "")
	ok(`{"requestId":"a","more":{"x":[1,-2.5e3,true,null,"]}\""]},"records":[{"attributes":{"k":"v"},"data":"aGVsbG8="}]}`, "a", "hello")
	ok(`{"requestId":"\u0061\"","records":[{"data":"Pz8\/"}]}`, `a"`, "???")

	bad := func(in, want string) {
		t.Helper()
		b := []byte(in)
		_, err := decodeBody(b)
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: error %v, want one with %q", in, err, want)
		}
		if string(b) != in {
			t.Errorf("%s: changed to %s", in, b)
		}
	}
	bad(``, "want {")
	bad(`[]`, "want {")
	bad(`{"requestId":"a"}`, "records is missing")
	bad(`{"records":[]}`, "requestId is missing")
	bad(`{"requestId":"","records":[]}`, "requestId has 0 characters")
	bad(`{"requestId":7,"records":[]}`, "byte 13: want a string")
	bad(`{"requestId":"`+strings.Repeat("x", 300)+`","records":[]}`, "requestId has 300 characters")
	bad(`{"requestId":"a","records":{}}`, "want [")
	bad(`{"requestId":"a","records":[{"data":"aGVsbG8="},{"data":"aGVsbG8gd29ybGQ!"}]}`, "record 1: data is not base64")
	bad(`{"requestId":"a","records":[{"data":"aGVsbG8="},{"data":"aGVsbG8="},{"data":5}]}`, "want a string")
	bad(`{"requestId":"a","records":[{"data":"aa"},{"data":"aa"}]}`, "record 0: data is not base64")
	bad(`{"requestId":"a","records":[],"records":[]}`, "twice")
	bad(`{"requestId":"a","records":[{"data":"","data":""}]}`, "twice")
	bad(`{"requestId":"a","records":[]}x`, "follows")
	bad(`{"requestId":"a","records":[]`, "want , or }")
	bad(`{"requestId":"a`, "does not end")
	bad(`{"requestId":"a\`, "does not end")
	bad(`{"requestId":"a","x":tru,"records":[]}`, "not a JSON value")
	bad(`{"requestId":"a","x":`+strings.Repeat("[", 100)+strings.Repeat("]", 100)+`,"records":[]}`, "nested more than")
	bad(`{"requestId":"a","records":[`+strings.Repeat("{},", maxRecords)+`{}]}`, "more than 10000 records")
}

// The reference is encoding/json: what both accept must say the same, and what
// ours accepts must be JSON.
func FuzzDecodeBody(f *testing.F) {
	f.Add([]byte(`{"requestId":"a","timestamp":1578090901599,"records":[{"data":"aGVsbG8="},{"data":""},{}]}`))
	f.Add([]byte(`{"requestId":"\u00e9","records":[{"data":"Pz8\/"}],"x":[{"y":[null,1e9,"\\"]}]}`))
	f.Add([]byte(`{"requestId":"a","records":[{"data":"aGVsbG8=!"}]}`))
	f.Add([]byte("{\"requestId\":\"a\",\"records\":[{\"data\":\"aGVs\\nbG8=\"}]}"))
	f.Fuzz(func(t *testing.T, in []byte) {
		work := bytes.Clone(in)
		got, err := decodeBody(work)
		if err != nil {
			return
		}
		var want struct {
			RequestID *string `json:"requestId"`
			Records   []struct {
				Data *string `json:"data"`
			} `json:"records"`
		}
		if err := json.Unmarshal(in, &want); err != nil {
			// Skipped values are checked loosely, and control characters in strings
			// are let through.
			return
		}
		// encoding/json takes the last of several requestIds, in any case.
		if n := bytes.Count(bytes.ToLower(in), []byte("requestid")); n == 1 && *want.RequestID != got.requestID && !bytes.ContainsRune(in, '�') && validUTF8(in) {
			t.Fatalf("requestId %q, want %q", got.requestID, *want.RequestID)
		}
		if bytes.Count(bytes.ToLower(in), []byte("records")) != 1 || bytes.Contains(bytes.ToLower(in), []byte(`\u`)) {
			return
		}
		if len(want.Records) != len(got.records) {
			t.Fatalf("%d records, want %d", len(got.records), len(want.Records))
		}
		if bytes.Count(bytes.ToLower(in), []byte("data")) > len(want.Records) {
			return
		}
		for i, r := range want.Records {
			if r.Data == nil {
				continue
			}
			data, err := base64.StdEncoding.DecodeString(*r.Data)
			if err != nil {
				t.Fatalf("record %d: accepted %q: %v", i, *r.Data, err)
			}
			if !bytes.Equal(data, got.records[i]) {
				t.Fatalf("record %d: %q, want %q", i, got.records[i], data)
			}
		}
	})
}

func validUTF8(b []byte) bool { return bytes.Equal(bytes.ToValidUTF8(b, []byte("?")), b) }

// Decoding in place relies on how encoding/base64 walks its input.
func TestBase64InPlace(t *testing.T) {
	for n := range 2000 {
		data := make([]byte, n)
		for i := range data {
			data[i] = byte(i*7 + n)
		}
		in := fmt.Sprintf(`{"requestId":"a","records":[{"data":%q}]}`, base64.StdEncoding.EncodeToString(data))
		got, err := decodeBody([]byte(in))
		if err != nil || !bytes.Equal(got.records[0], data) {
			t.Fatalf("%d bytes: %v", n, err)
		}
	}
}

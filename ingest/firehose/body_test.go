package firehose

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"
	"unicode/utf8"

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

// The reference is encoding/json: what both accept must say the same.
func FuzzDecodeBody(f *testing.F) {
	f.Add([]byte(`{"requestId":"a","timestamp":1578090901599,"records":[{"data":"aGVsbG8="},{"data":""},{}]}`))
	f.Add([]byte(`{"requestId":"\u00e9","records":[{"data":"Pz8\/"}],"x":[{"y":[null,1e9,"\\"]}]}`))
	f.Add([]byte(`{"requestId":"a","records":[{"data":"aGVsbG8=!"}]}`))
	f.Add([]byte(`{"requestId":"0","records":[{"dAtA":"0000000000"}]}`))
	f.Add([]byte("{\"requestId\":\"a\",\"records\":[{\"data\":\"aGVs\\nbG8=\"}]}"))
	f.Fuzz(func(t *testing.T, in []byte) {
		got, err := decodeBody(bytes.Clone(in))
		if err != nil || !utf8.Valid(in) {
			return
		}
		var members map[string]json.RawMessage
		if json.Unmarshal(in, &members) != nil {
			return // values that are skipped are checked loosely
		}
		var id string
		var records []map[string]json.RawMessage
		if err := errors.Join(json.Unmarshal(members["requestId"], &id), json.Unmarshal(members["records"], &records)); err != nil {
			t.Fatal(err)
		}
		if id != got.requestID || len(records) != len(got.records) {
			t.Fatalf("id %q with %d records, want %q with %d", got.requestID, len(got.records), id, len(records))
		}
		for i, r := range records {
			var want []byte
			if r["data"] != nil {
				if err := json.Unmarshal(r["data"], &want); err != nil {
					t.Fatalf("record %d: accepted: %v", i, err)
				}
			}
			if !bytes.Equal(want, got.records[i]) {
				t.Fatalf("record %d: %q, want %q", i, got.records[i], want)
			}
		}
	})
}

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

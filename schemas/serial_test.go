package schemas

import (
	"math/big"
	"strings"
	"testing"
)

func TestNormalizeSerial(t *testing.T) {
	for _, tc := range []struct{ in, want string }{
		{"0", "0"},
		{"00", "0"},
		{"00:00", "0"},
		{"1A:98:eb:03", "1a98eb03"},
		{"1a98eb03", "1a98eb03"},
		{"0x1A98EB03", "1a98eb03"},
		{"0X1A98EB03", "1a98eb03"},
		{"00:1A:98:EB:03", "1a98eb03"},
		{" 1a 98 eb 03\n", "1a98eb03"},
		{"-1a98", ""},
		{"1:2:3", "10203"}, // moto's spelling
		{"0A:1", "a01"},
		{"A", "a"},
		{"abc", "abc"},
		{"0abc", "abc"},
		{"", ""},
		{":", ""},
		{"0x", ""},
		{"1g", ""},
		{"-1z", ""},
		{"1\u00e9", ""},
		{strings.Repeat("f", 128), strings.Repeat("f", 128)},
		{strings.Repeat("f", 129), ""},
		{strings.Repeat("f:", 65), ""},
	} {
		got, err := NormalizeSerial(tc.in)
		if got != tc.want || (err == nil) != (tc.want != "") {
			t.Errorf("NormalizeSerial(%q) = %q, %v; want %q", tc.in, got, err, tc.want)
		}
	}
}

func TestSerialHexIsThatOfBigInt(t *testing.T) {
	for _, n := range []int64{0, 1, 9, 15, 16, 255, 256, 4095, 65536, 1519676905984} {
		i := big.NewInt(n)
		if got, want := SerialHex(i.Bytes()), i.Text(16); got != want {
			t.Errorf("%d: %s, want %s", n, got, want)
		}
		if got := SerialHex(append([]byte{0, 0}, i.Bytes()...)); got != i.Text(16) {
			t.Errorf("%d with zeros before it: %s", n, got)
		}
	}
}

func FuzzNormalizeSerial(f *testing.F) {
	for _, s := range []string{"1A:98", "0x00", "00:11:22", "1 2 3"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		got, err := NormalizeSerial(s)
		if err != nil {
			return
		}
		if again, err := NormalizeSerial(got); err != nil || again != got {
			t.Errorf("%q becomes %q and then %q, %v", s, got, again, err)
		}
	})
}

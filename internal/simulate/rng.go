package simulate

import (
	"encoding/binary"
	"math"
	"math/rand/v2"
)

// rng is a small generator of one actor's own: what one actor does never
// depends on when another one drew a number, so a larger fleet holds the
// smaller one unchanged.
type rng struct{ pcg rand.PCG }

func newRNG(seed uint64, actor uint64) rng {
	var r rng
	r.pcg.Seed(seed, actor*0x9e3779b97f4a7c15+1)
	r.pcg.Uint64() // neighbouring seeds begin alike
	return r
}

// n returns a number from 0 to n-1; the bias of a plain modulus does not
// matter for numbers this small.
func (r *rng) n(n int) int { return int(r.pcg.Uint64() % uint64(n)) }

// chance is true with probability p.
func (r *rng) chance(p float64) bool { return r.float() < p }

// float returns a number in [0, 1).
func (r *rng) float() float64 { return float64(r.pcg.Uint64()>>11) / (1 << 53) }

// about returns mean give or take the fraction spread, evenly distributed.
func (r *rng) about(mean, spread float64) float64 { return mean * (1 + spread*(2*r.float()-1)) }

// exp returns an exponentially distributed number: the time to the next of
// events that have nothing to do with each other. It is cut at ten means.
func (r *rng) exp(mean float64) float64 { return min(-math.Log(1-r.float())*mean, 10*mean) }

// logNormal returns a positive number around median whose logarithm is normal:
// what differs between devices of one kind does so by factors.
func (r *rng) logNormal(median, sigma float64) float64 {
	u, v := 1-r.float(), r.float()
	return median * math.Exp(sigma*math.Sqrt(-2*math.Log(u))*math.Cos(2*math.Pi*v))
}

const hexDigits = "0123456789abcdef"

// hex appends n hexadecimal digits.
func (r *rng) hex(dst []byte, n int) []byte {
	for n > 0 {
		v := r.pcg.Uint64()
		for range min(n, 16) {
			dst = append(dst, hexDigits[v&15])
			v >>= 4
			n--
		}
	}
	return dst
}

// uuid appends a random UUID in its usual form.
func (r *rng) uuid(dst []byte) []byte {
	var b [16]byte
	binary.LittleEndian.PutUint64(b[:], r.pcg.Uint64())
	binary.LittleEndian.PutUint64(b[8:], r.pcg.Uint64())
	b[6], b[8] = b[6]&0x0f|0x40, b[8]&0x3f|0x80
	for i, c := range b {
		if i == 4 || i == 6 || i == 8 || i == 10 {
			dst = append(dst, '-')
		}
		dst = append(dst, hexDigits[c>>4], hexDigits[c&15])
	}
	return dst
}

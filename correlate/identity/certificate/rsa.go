package certificate

import (
	"math/big"
	"sync"
)

const minRSABits = 2048

// maxRSABits bounds the arithmetic that a hostile certificate can ask for.
const maxRSABits = 16384

// weakRSA returns why an RSA key is weak, "" if nothing is known against it.
func weakRSA(n, e *big.Int) string {
	switch {
	case n.BitLen() < minRSABits:
		return WeakRSAShort
	case e.Bit(0) == 0 || e.Cmp(big.NewInt(1)) == 0:
		return WeakRSAExponent
	case n.BitLen() > maxRSABits:
		return ""
	case new(big.Int).GCD(nil, nil, n, smallPrimes()).Cmp(big.NewInt(1)) != 0:
		return WeakRSASmallFactor
	case isROCA(n):
		return WeakRSAROCA
	case hasClosePrimes(n):
		return WeakRSAClosePrimes
	}
	return ""
}

// smallPrimes is the product of the primes below 1000.
var smallPrimes = sync.OnceValue(func() *big.Int {
	product := big.NewInt(1)
	for p := int64(2); p < 1000; p++ {
		if big.NewInt(p).ProbablyPrime(0) {
			product.Mul(product, big.NewInt(p))
		}
	}
	return product
})

// rocaPrimes are the first primes of the number M that the Infineon library
// makes its primes from.
var rocaPrimes = [...]uint64{
	3, 5, 7, 11, 13, 17, 19, 23, 29, 31, 37, 41, 43, 47, 53, 59, 61, 67, 71, 73, 79, 83, 89, 97,
	101, 103, 107, 109, 113, 127, 131, 137, 139, 149, 151, 157, 163, 167,
}

// rocaResidues holds, for each of rocaPrimes, the powers of 65537 modulo it as
// a set of bits.
var rocaResidues = sync.OnceValue(func() *[len(rocaPrimes)][3]uint64 {
	var sets [len(rocaPrimes)][3]uint64
	for i, p := range rocaPrimes {
		for x, first := uint64(1), true; first || x != 1; x, first = x*65537%p, false {
			sets[i][x/64] |= 1 << (x % 64)
		}
	}
	return &sets
})

// isROCA is the fingerprint of Nemec et al., "The Return of Coppersmith's
// Attack" (CCS 2017), section 2.2: both primes are powers of 65537 modulo M, and
// so is their product. About one other modulus in 2^27 looks like that.
func isROCA(n *big.Int) bool {
	sets := rocaResidues()
	var residue, p big.Int
	for i, prime := range rocaPrimes {
		r := residue.Mod(n, p.SetUint64(prime)).Uint64()
		if sets[i][r/64]&(1<<(r%64)) == 0 {
			return false
		}
	}
	return true
}

// fermatRounds is what the weak implementations in the field needed at most, and
// some more.
const fermatRounds = 100

// hasClosePrimes reports whether n = a^2 - b^2 with an a next to the square root
// of n.
func hasClosePrimes(n *big.Int) bool {
	one := big.NewInt(1)
	a := new(big.Int).Sqrt(n)
	var b2, b, square big.Int
	if square.Mul(a, a).Cmp(n) == 0 {
		return true
	}
	for range fermatRounds {
		a.Add(a, one)
		b2.Sub(square.Mul(a, a), n)
		b.Sqrt(&b2)
		if square.Mul(&b, &b).Cmp(&b2) == 0 {
			return true
		}
	}
	return false
}

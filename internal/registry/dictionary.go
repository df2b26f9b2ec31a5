package registry

import "hash/maphash"

const (
	maxTexts    = 1 << 16
	maxTextSize = 512
	sightings   = 1 << 12
)

// dictionary gives numbers to texts that many records share: issuers, kinds of
// keys, reasons. It only grows, and is bounded: a text that it does not take is
// written into its record.
type dictionary struct {
	texts   []string
	numbers map[string]uint32
	seed    maphash.Seed
	// seen has the hashes of texts of late: only what comes a second time is taken
	// in, so that what is different in every record does not fill the dictionary.
	seen [sightings]uint64
	full int64 // texts that found no room
}

func newDictionary() dictionary {
	return dictionary{numbers: make(map[string]uint32), seed: maphash.MakeSeed()}
}

// number returns the number of a text, from 1, and 0 if it has none.
func (d *dictionary) number(s []byte, shared bool) uint32 {
	if n, ok := d.numbers[string(s)]; ok {
		return n
	}
	if len(s) > maxTextSize {
		return 0
	}
	if !shared {
		h := maphash.Bytes(d.seed, s)
		if at := &d.seen[h%sightings]; *at != h {
			*at = h
			return 0
		}
	}
	if len(d.texts) >= maxTexts {
		d.full++
		return 0
	}
	text := string(s)
	d.texts = append(d.texts, text)
	n := uint32(len(d.texts))
	d.numbers[text] = n
	return n
}

func (d *dictionary) text(n uint64) (string, bool) {
	if n == 0 || n > uint64(len(d.texts)) {
		return "", false
	}
	return d.texts[n-1], true
}

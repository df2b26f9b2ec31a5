package behavior

// origin is an account and a region. There are few, so devices hold their numbers.
type origin struct{ account, region string }

// maxOrigins bounds them; further ones are none.
const maxOrigins = 256

type originTable struct {
	all  []origin
	last uint32
}

func newOriginTable() *originTable { return &originTable{all: []origin{{}}} }

func (t *originTable) at(n uint32) origin { return t.all[n] }

func (t *originTable) number(account, region []byte) uint32 {
	is := func(o *origin) bool { return o.account == string(account) && o.region == string(region) }
	if is(&t.all[t.last]) {
		return t.last
	}
	for i := range t.all {
		if is(&t.all[i]) {
			t.last = uint32(i)
			return t.last
		}
	}
	if len(t.all) == maxOrigins {
		return 0
	}
	t.all = append(t.all, origin{string(account), string(region)})
	t.last = uint32(len(t.all) - 1)
	return t.last
}

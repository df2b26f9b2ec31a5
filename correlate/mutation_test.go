package correlate

import "testing"

// TestOracleNotices: with a fault put into the windows, the random comparison
// must find a difference; else it would not find one that somebody makes.
func TestOracleNotices(t *testing.T) {
	for name, hooks := range map[string]testHooks{
		"skip the dedup":   {skipDedup: true},
		"evict by arrival": {evictByArrival: true},
		"close early":      {closeEarly: true},
	} {
		t.Run(name, func(t *testing.T) {
			const cases = 3000
			noticed := 0
			for seed := range uint64(cases) {
				s := randomScript(seed)
				if len(runScript(s, hooks)) > 0 && len(runScript(s, testHooks{})) == 0 {
					noticed++
				}
				if noticed == 5 {
					return
				}
			}
			t.Errorf("only %d of %d random cases notice it", noticed, cases)
		})
	}
}

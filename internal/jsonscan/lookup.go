package jsonscan

// Lookup returns the value that path leads to from the object data through its
// members, and whether there is one. Of several members with the same key it
// takes the last, as encoding/json does. Keys written with escapes are not found.
func Lookup(data []byte, path ...string) (Value, bool) {
	var s Scanner
	v := Value{Raw: data, Kind: Object}
	for _, name := range path {
		if v.Kind != Object {
			return Value{}, false
		}
		s.Reset(v.Raw)
		if s.Enter() != Object {
			return Value{}, false
		}
		var found Value
		for key, ok := s.Member(); ok; key, ok = s.Member() {
			member := s.Value()
			if string(key.Raw) == name {
				found = member
			}
		}
		if s.err.What != "" || found.Kind == Invalid {
			return Value{}, false
		}
		v = found
	}
	return v, true
}

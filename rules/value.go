package rules

// value is one value of a field of the current event. A field has several
// where its path goes through arrays, or its key occurs twice.
type value struct {
	text   []byte // a string unescaped, the JSON text of anything else
	folded []byte // nil until it is asked for
	next   int32  // the field's next value, -1 at the end
	kind   valueKind
}

type valueKind uint8

const (
	valString valueKind = iota
	valNumber
	valBool
	valObject
	valNull
	valEmptyArray
)

// isText reports whether string tests see the value. They see an object as its
// JSON text.
func (k valueKind) isText() bool { return k <= valObject }

// slot holds the values of one field of the current event.
type slot struct {
	epoch       uint32
	first, last int32
}

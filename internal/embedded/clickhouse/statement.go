package clickhouse

import "strings"

// statement is what the front end must know of a statement before the engine
// sees it: where the data of an INSERT begins, and which format goes out.
type statement struct {
	keyword string // first keyword, upper case: SELECT, INSERT, CREATE, ...
	format  string // the FORMAT clause's name, empty without one
	outfile bool   // INTO OUTFILE or FROM INFILE: files are the client's business

	// insert is set for an INSERT that takes data: sql is then the statement
	// without FORMAT and data, and dataAt where the data begins in the text.
	insert bool
	sql    string
	dataAt int
}

// parseStatement reads the outline of the SQL at the start of text. It knows
// ClickHouse's lexical structure and the few clauses above, not the grammar:
// everything else is left to the engine, which has the last word.
func parseStatement(text string) statement {
	l := lexer{text: text}
	var st statement
	depth := 0
	first := l.next()
	for ; first.text == "("; first = l.next() {
		depth++
	}
	st.keyword = strings.ToUpper(first.text)
	if st.keyword == "INSERT" {
		st.parseInsert(&l)
		return st
	}
	st.parseQuery(&l, depth)
	return st
}

// parseInsert finds what follows INSERT INTO t (columns) SETTINGS ...: data, or
// a SELECT that the engine runs as it is.
func (st *statement) parseInsert(l *lexer) {
	depth := 0
	prev := token{}
	for t := l.next(); t.kind != tokenEnd; prev, t = t, l.next() {
		switch {
		case t.text == "(":
			depth++
		case t.text == ")":
			depth--
		case t.kind != tokenWord || afterName(prev):
		case t.is("SELECT") && (depth == 0 || prev.text == "("):
			return
		case depth != 0:
		case t.is("WITH"):
			return
		case t.is("FROM"):
			if n := l.next(); n.is("INFILE") {
				st.outfile = true
				return
			}
			return
		case t.is("VALUES"):
			st.insert, st.format = true, "Values"
			st.sql, st.dataAt = l.text[:t.at], l.at
			return
		case t.is("FORMAT"):
			name := l.next()
			if name.kind != tokenWord {
				return
			}
			st.format = name.text
			if name.is("VALUES") {
				st.format = "Values"
			}
			st.insert, st.sql, st.dataAt = true, l.text[:t.at], l.skipToData()
			return
		}
	}
}

// parseQuery looks for FORMAT at the end of the statement, which may be
// followed by SETTINGS.
func (st *statement) parseQuery(l *lexer, depth int) {
	prev := token{}
	for t := l.next(); t.kind != tokenEnd; prev, t = t, l.next() {
		switch {
		case t.text == "(" || t.text == "[":
			depth++
		case t.text == ")" || t.text == "]":
			depth--
		case depth == 0 && t.is("OUTFILE") && prev.is("INTO"):
			st.outfile = true
		case depth != 0 || t.kind != tokenWord || afterName(prev):
		case t.is("FORMAT"):
			mark := *l
			name := l.next()
			end := l.next()
			if name.kind == tokenWord && (end.kind == tokenEnd || end.text == ";" || end.is("SETTINGS")) {
				st.format = name.text
				return
			}
			*l = mark
		}
	}
}

// afterName is true where a keyword's text must be an identifier.
func afterName(prev token) bool {
	return prev.text == "." || prev.is("AS") || prev.is("FROM") || prev.is("JOIN") || prev.is("TABLE") ||
		prev.is("FUNCTION") || prev.is("DATABASE") || prev.is("INTO")
}

type tokenKind uint8

const (
	tokenEnd tokenKind = iota
	tokenWord
	tokenQuoted // string, quoted identifier or here-document
	tokenSymbol
)

type token struct {
	kind tokenKind
	text string
	at   int // where it begins
}

func (t token) is(keyword string) bool {
	return t.kind == tokenWord && strings.EqualFold(t.text, keyword)
}

// lexer follows ClickHouse's src/Parsers/Lexer.cpp as far as needed to know
// what is inside quotes and comments.
type lexer struct {
	text string
	at   int
}

func (l *lexer) next() token {
	l.skipBlank()
	if l.at >= len(l.text) {
		return token{at: len(l.text)}
	}
	start := l.at
	switch c := l.text[l.at]; {
	case c == '\'' || c == '"' || c == '`':
		l.skipQuoted(c)
		return token{tokenQuoted, l.text[start:l.at], start}
	case c == '$' && l.skipHeredoc():
		return token{tokenQuoted, l.text[start:l.at], start}
	case isWord(c):
		for l.at < len(l.text) && (isWord(l.text[l.at]) || l.text[l.at] == '$') {
			l.at++
		}
		return token{tokenWord, l.text[start:l.at], start}
	}
	l.at++
	return token{tokenSymbol, l.text[start:l.at], start}
}

func isWord(c byte) bool {
	return c == '_' || c >= '0' && c <= '9' || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z'
}

func (l *lexer) skipBlank() {
	for l.at < len(l.text) {
		rest := l.text[l.at:]
		switch c := rest[0]; {
		case c == ' ' || c >= '\t' && c <= '\r':
			l.at++
		case strings.HasPrefix(rest, "--"), strings.HasPrefix(rest, "# "), strings.HasPrefix(rest, "#!"):
			l.skipPast("\n")
		case strings.HasPrefix(rest, "/*"):
			l.at += 2
			l.skipPast("*/")
		default:
			return
		}
	}
}

// skipPast goes behind the next occurrence of s, or to the end.
func (l *lexer) skipPast(s string) {
	if i := strings.Index(l.text[l.at:], s); i >= 0 {
		l.at += i + len(s)
		return
	}
	l.at = len(l.text)
}

// skipQuoted goes behind the closing quote. A doubled quote needs no care: it
// reads as two quoted tokens side by side.
func (l *lexer) skipQuoted(quote byte) {
	for l.at++; l.at < len(l.text); l.at++ {
		switch l.text[l.at] {
		case '\\':
			l.at++
		case quote:
			l.at++
			return
		}
	}
	l.at = len(l.text)
}

// skipHeredoc goes behind $tag$ ... $tag$, if there is one.
func (l *lexer) skipHeredoc() bool {
	rest := l.text[l.at:]
	n := 1
	for n < len(rest) && isWord(rest[n]) {
		n++
	}
	if n >= len(rest) || rest[n] != '$' {
		return false
	}
	tag := rest[:n+1]
	end := strings.Index(rest[len(tag):], tag)
	if end < 0 {
		return false
	}
	l.at += 2*len(tag) + end
	return true
}

// skipToData goes behind what separates FORMAT name from the data: blanks and
// one line end, no more, because binary data may begin with such a byte
// (ClickHouse's ParserInsertQuery does the same).
func (l *lexer) skipToData() int {
	at := l.at
	for at < len(l.text) && (l.text[at] == ' ' || l.text[at] == '\t' || l.text[at] == '\f') {
		at++
	}
	if at < len(l.text) && l.text[at] == '\r' {
		at++
	}
	if at < len(l.text) && l.text[at] == '\n' {
		at++
	}
	return at
}

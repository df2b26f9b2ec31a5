package clickhouse

import "strings"

// splitStatements cuts SQL text at its semicolons, except those in quotes and
// comments. Comments are kept, empty statements are not.
func splitStatements(sql string) []string {
	var statements []string
	start := 0
	add := func(end int) {
		if s := strings.TrimSpace(sql[start:end]); s != "" && !onlyComments(s) {
			statements = append(statements, s)
		}
		start = end + 1
	}
	for i := 0; i < len(sql); {
		switch n := skipToken(sql[i:]); {
		case n > 0:
			i += n
		case sql[i] == ';':
			add(i)
			i++
		default:
			i++
		}
	}
	if start < len(sql) {
		add(len(sql))
	}
	return statements
}

// skipToken returns the length of the comment or quoted text that s begins
// with, 0 if it begins with neither. What is not ended goes on to the end.
func skipToken(s string) int {
	switch {
	case strings.HasPrefix(s, "--"):
		return through(s, 2, "\n")
	case strings.HasPrefix(s, "/*"):
		return through(s, 2, "*/")
	case s[0] == '\'' || s[0] == '"' || s[0] == '`':
		for i := 1; i < len(s); i++ {
			switch s[i] {
			case '\\':
				i++
			case s[0]: // a doubled quote looks like two strings, which is as good
				return i + 1
			}
		}
		return len(s)
	}
	return 0
}

func through(s string, from int, end string) int {
	if i := strings.Index(s[from:], end); i >= 0 {
		return from + i + len(end)
	}
	return len(s)
}

func onlyComments(s string) bool {
	for s = strings.TrimSpace(s); s != ""; s = strings.TrimSpace(s) {
		if !strings.HasPrefix(s, "--") && !strings.HasPrefix(s, "/*") {
			return false
		}
		s = s[skipToken(s):]
	}
	return true
}

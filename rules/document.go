package rules

import (
	"bytes"
	"errors"
	"fmt"
	"io"

	"go.yaml.in/yaml/v4"
	"go.yaml.in/yaml/v4/plugin/loaderlimits"
)

// document is one YAML document of a source.
type document struct {
	*reporter
	root *yaml.Node // a mapping
}

// reporter collects the diagnostics of one document.
type reporter struct {
	file   string
	offset int    // lines before the document
	rule   string // title, name or ID
	diags  *Diagnostics
	errors int
}

func (r *reporter) report(sev Severity, n *yaml.Node, column int, hint, format string, args ...any) {
	if sev == SeverityError {
		r.errors++
	}
	d := Diagnostic{File: r.file, Severity: sev, Rule: r.rule, Message: fmt.Sprintf(format, args...), Hint: hint}
	if n != nil {
		d.Line, d.Column = n.Line+r.offset, n.Column+column
	}
	*r.diags = append(*r.diags, d)
}

func (r *reporter) error(n *yaml.Node, hint, format string, args ...any) {
	r.report(SeverityError, n, 0, hint, format, args...)
}

func (r *reporter) warn(n *yaml.Node, hint, format string, args ...any) {
	r.report(SeverityWarning, n, 0, hint, format, args...)
}

// readDocuments parses the documents of a source one by one, so that what is
// wrong with one does not hide the others.
func readDocuments(src Source, limits *Limits, diags *Diagnostics) []document {
	if len(src.Data) > limits.FileBytes {
		*diags = append(*diags, Diagnostic{
			File:    src.Name,
			Message: fmt.Sprintf("file of %d bytes", len(src.Data)),
			Hint:    fmt.Sprintf("the limit is %d bytes; split it", limits.FileBytes),
		})
		return nil
	}
	chunks := splitDocuments(src.Data)
	if len(chunks) > limits.Documents {
		*diags = append(*diags, Diagnostic{
			File:    src.Name,
			Message: fmt.Sprintf("file of %d documents", len(chunks)),
			Hint:    fmt.Sprintf("the limit is %d; split it", limits.Documents),
		})
		return nil
	}
	var docs []document
	before := len(*diags)
	for _, chunk := range chunks {
		if len(*diags)-before > limits.Diagnostics {
			break // Compile says that there are more
		}
		r := &reporter{file: src.Name, offset: chunk.line, diags: diags}
		root, err := parseYAML(chunk.data, limits)
		switch {
		case err != nil:
			r.errors++
			d := Diagnostic{File: src.Name, Line: chunk.line + 1, Column: 1, Message: "not YAML: " + err.Error()}
			var load *yaml.LoadError
			if errors.As(err, &load) {
				d.Message = "not YAML: " + load.Message
				d.Line, d.Column = chunk.line+max(load.Mark.Line, 1), load.Mark.Column+1
			}
			*diags = append(*diags, d)
			continue
		case root == nil:
			continue
		case root.Kind != yaml.MappingNode:
			r.error(root, "a rule is a mapping with title, logsource and detection", "the document is not a mapping")
			continue
		}
		c := checker{reporter: r, limits: limits, budget: limits.YAMLNodes}
		c.check(root, 0)
		if r.errors == 0 {
			docs = append(docs, document{r, root})
		}
	}
	return docs
}

type chunk struct {
	data []byte
	line int // lines before it
}

// splitDocuments cuts at the lines that begin with ---. Such a line ends a
// document even inside a block scalar.
func splitDocuments(data []byte) []chunk {
	var chunks []chunk
	start, startLine, line := 0, 0, 0
	directives := false
	for at := 0; at < len(data); line++ {
		end := len(data)
		if i := bytes.IndexByte(data[at:], '\n'); i >= 0 {
			end = at + i + 1
		}
		text := data[at:end]
		switch {
		case text[0] == '%':
			directives = true
		case bytes.HasPrefix(text, []byte("---")) && (len(text) == 3 || text[3] == ' ' || text[3] == '\t' || text[3] == '\n' || text[3] == '\r'):
			// The directives belong to the document that follows.
			if !directives && at > start {
				chunks = append(chunks, chunk{data[start:at], startLine})
				start, startLine = at, line
			}
			directives = false
		}
		at = end
	}
	if start < len(data) {
		chunks = append(chunks, chunk{data[start:], startLine})
	}
	return chunks
}

// parseYAML returns the root node, nil for an empty document.
func parseYAML(data []byte, limits *Limits) (root *yaml.Node, err error) {
	// Rules may come from anyone; a fault in the library must not take the
	// process down.
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("the parser failed: %v", r)
		}
	}()
	loader, err := yaml.NewLoader(bytes.NewReader(data), yaml.WithPlugin(loaderlimits.New(loaderlimits.DepthValue(limits.YAMLDepth))))
	if err != nil {
		return nil, err
	}
	var n yaml.Node
	if err := loader.Load(&n); err != nil {
		if errors.Is(err, io.EOF) {
			return nil, nil
		}
		return nil, err
	}
	var more yaml.Node
	if err := loader.Load(&more); err == nil {
		return nil, errors.New("text after the end of the document")
	} else if !errors.Is(err, io.EOF) {
		return nil, err
	}
	root = &n
	if n.Kind == yaml.DocumentNode {
		if len(n.Content) == 0 {
			return nil, nil
		}
		root = n.Content[0]
	}
	if root.Kind == 0 || root.Kind == yaml.ScalarNode && root.ShortTag() == "!!null" {
		return nil, nil
	}
	return root, nil
}

// checker looks for what would be dangerous or ambiguous in any document, and
// replaces aliases by what they stand for.
type checker struct {
	*reporter
	limits *Limits
	budget int
}

func (c *checker) check(n *yaml.Node, depth int) {
	c.budget--
	if c.budget == 0 {
		c.error(n, "aliases count as often as they are used", "more than %d YAML nodes in the document", c.limits.YAMLNodes)
	}
	if depth > c.limits.YAMLDepth {
		c.error(n, "an alias may not contain itself", "nested more than %d deep", c.limits.YAMLDepth)
		c.budget = 0
	}
	if c.budget <= 0 {
		return
	}
	if n.Kind == yaml.MappingNode {
		c.checkKeys(n)
	}
	for i, child := range n.Content {
		if child.Kind == yaml.AliasNode && child.Alias != nil {
			child = child.Alias
			n.Content[i] = child
		}
		c.check(child, depth+1)
	}
}

func (c *checker) checkKeys(n *yaml.Node) {
	seen := make(map[string]*yaml.Node, len(n.Content)/2)
	for i := 0; i+1 < len(n.Content); i += 2 {
		key := n.Content[i]
		if key.Kind == yaml.AliasNode && key.Alias != nil {
			key = key.Alias
		}
		switch first := seen[key.Value]; {
		case key.Kind != yaml.ScalarNode:
			c.error(key, "", "a key must be a scalar")
		case key.Value == "<<" && key.ShortTag() == "!!merge":
			c.error(key, "write the keys out", "merge keys are not supported")
		case first != nil:
			c.error(key, fmt.Sprintf("the first is in line %d; put the values into one list, or use two selections", first.Line+c.offset), "key %q twice", key.Value)
		default:
			seen[key.Value] = key
		}
	}
}

// members yields the keys and values of a mapping.
func members(n *yaml.Node) func(func(key, value *yaml.Node) bool) {
	return func(yield func(key, value *yaml.Node) bool) {
		for i := 0; i+1 < len(n.Content); i += 2 {
			if !yield(n.Content[i], n.Content[i+1]) {
				return
			}
		}
	}
}

// member returns the value of a key, nil if there is none.
func member(n *yaml.Node, name string) *yaml.Node {
	for key, value := range members(n) {
		if key.Value == name {
			return value
		}
	}
	return nil
}

func kindName(n *yaml.Node) string {
	switch n.Kind {
	case yaml.MappingNode:
		return "a mapping"
	case yaml.SequenceNode:
		return "a list"
	}
	switch n.ShortTag() {
	case "!!null":
		return "null"
	case "!!bool":
		return "a boolean"
	case "!!int", "!!float":
		return "a number"
	}
	return "a string"
}

func isNull(n *yaml.Node) bool { return n.Kind == yaml.ScalarNode && n.ShortTag() == "!!null" }

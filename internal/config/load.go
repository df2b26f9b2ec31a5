package config

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"reflect"
	"strings"

	"go.yaml.in/yaml/v4"
)

// MaxDocument bounds a configuration file.
const MaxDocument = 4 << 20

// LoadFile reads the configuration in path, with the environment of the
// process; an empty path gives the defaults. All problems come back in one
// *Error; any other error means that the file could not be read.
func LoadFile(path string) (*Config, error) {
	if path == "" {
		return Load("", nil, os.LookupEnv)
	}
	info, err := os.Stat(path)
	if err != nil {
		return nil, fmt.Errorf("configuration: %w", err)
	}
	if info.Size() > MaxDocument {
		return nil, fmt.Errorf("configuration: %s is larger than 4 MiB", path)
	}
	b, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("configuration: %w", err)
	}
	return Load(path, b, os.LookupEnv)
}

// Load reads the document b, which errors call file. Secret files that it
// names are read. The error, if any, is an *Error.
func Load(file string, b []byte, getenv func(string) (string, bool)) (*Config, error) {
	c := Default(getenv)
	r := &reader{file: file, env: expander{getenv: getenv}, positions: map[string]position{}, faulty: map[string]bool{}}
	r.decode(b, c)
	v := &validator{reader: r}
	v.secrets(c)
	v.clickhouseURL(&c.ClickHouse)
	v.validate(c)
	if len(r.problems) > 0 {
		return nil, newError(r.problems)
	}
	return c, nil
}

func (r *reader) decode(b []byte, c *Config) {
	var document yaml.Node
	// An empty document, or one of comments only, is fine; to the library it is none.
	err := yaml.Load(append(bytes.Clone(b), "\n"...), &document)
	if err != nil && document.Kind == 0 && onlyComments(b) {
		return
	}
	if err != nil {
		r.syntax(err)
		return
	}
	if document.Kind != yaml.DocumentNode || len(document.Content) != 1 {
		return
	}
	root := document.Content[0]
	if !r.walk(root, reflect.TypeFor[Config](), "") {
		r.missingEnv()
		return
	}
	r.missingEnv()
	if root.Kind != yaml.MappingNode {
		return // null: nothing but defaults
	}
	if err := root.Load(c); err != nil {
		r.syntax(err)
	}
}

func (r *reader) missingEnv() {
	if len(r.env.missing) > 0 {
		r.problems = append(r.problems, Problem{File: r.file, Message: "environment variables are not set and have no default: " + strings.Join(r.env.missing, ", ")})
	}
}

// syntax takes over what the YAML library says.
func (r *reader) syntax(err error) {
	var all *yaml.LoadErrors
	var one *yaml.LoadError
	switch {
	case errors.As(err, &all) && len(all.Errors) > 0:
		for _, e := range all.Errors {
			r.problems = append(r.problems, Problem{File: r.file, Line: e.Mark.Line, Column: e.Mark.Column, Message: strings.TrimPrefix(e.Message, "yaml: ")})
		}
	case errors.As(err, &one):
		message := one.Message
		if one.ContextMsg != "" {
			message = fmt.Sprintf("%s %s that begins in line %d", message, one.ContextMsg, one.ContextMark.Line)
		}
		r.problems = append(r.problems, Problem{File: r.file, Line: one.Mark.Line, Column: one.Mark.Column, Message: message})
	default:
		r.problems = append(r.problems, Problem{File: r.file, Message: err.Error()})
	}
}

func onlyComments(b []byte) bool {
	for line := range bytes.Lines(b) {
		if line = bytes.TrimSpace(line); len(line) > 0 && line[0] != '#' {
			return false
		}
	}
	return true
}

package config

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
)

const redacted = "***"

// maxSecretFile bounds what is read from a secret file: a wrong path must not
// fill the memory.
const maxSecretFile = 1 << 20

// Secret is a value that no log, error or dump may show: however it is
// formatted, it prints as ***.
type Secret string

// Reveal returns the value itself.
func (s Secret) Reveal() string { return string(s) }

// String returns ***, or "" for an empty secret.
func (s Secret) String() string {
	if s == "" {
		return ""
	}
	return redacted
}

// Format prints *** whatever the verb. Without it %x and %#v would show the value.
func (s Secret) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, s.String()) }

// MarshalText hides the value from JSON and the like.
func (s Secret) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// MarshalYAML hides the value from YAML.
func (s Secret) MarshalYAML() (any, error) { return s.String(), nil }

// readSecretFile returns the first line of a file.
func readSecretFile(path string) (Secret, error) {
	lines, err := readSecretLines(path)
	if err != nil {
		return "", err
	}
	if len(lines) > 1 {
		return "", fmt.Errorf("%s holds %d lines; want one secret", path, len(lines))
	}
	return lines[0], nil
}

// readSecretLines returns the non-empty lines of a file.
func readSecretLines(path string) ([]Secret, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, maxSecretFile+1))
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	if len(b) > maxSecretFile {
		return nil, fmt.Errorf("%s is larger than 1 MiB", path)
	}
	var lines []Secret
	for scanner := bufio.NewScanner(bytes.NewReader(b)); scanner.Scan(); {
		if line := strings.TrimSpace(scanner.Text()); line != "" {
			lines = append(lines, Secret(line))
		}
	}
	if len(lines) == 0 {
		return nil, errors.New(path + " is empty")
	}
	return lines, nil
}

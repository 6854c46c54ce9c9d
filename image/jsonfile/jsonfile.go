// Package jsonfile reads the JSON files by which build actions and rules describe their outputs to
// each other.
package jsonfile

import (
	"encoding/json"
	"fmt"
	"os"
)

// Read reads a JSON file. What names it in errors: "layer metadata".
func Read[T any](what, path string) (*T, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("reading %s: %w", what, err)
	}
	v := new(T)
	if err := json.Unmarshal(text, v); err != nil {
		return nil, fmt.Errorf("reading %s %s: %w", what, path, err)
	}
	return v, nil
}

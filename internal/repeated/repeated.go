// Package repeated has values for command line flags that may be given more than once.
package repeated

import "strings"

// Strings collects what each occurrence of a flag gives, in order. It is a [flag.Value].
type Strings []string

// String joins them with commas, for usage messages.
func (s *Strings) String() string { return strings.Join(*s, ", ") }

// Set adds one.
func (s *Strings) Set(value string) error {
	*s = append(*s, value)
	return nil
}

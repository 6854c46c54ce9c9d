package compare

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"runtime/debug"
	"strings"
	"time"

	"go.etcd.io/bbolt"
)

// databases compares two bolt databases, buckets and keys in their order.
func databases(a, b *io.SectionReader, depth int) (d *Difference, err error) {
	// bolt maps the file and trusts its pages: one that leads outside of it is a fault.
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	defer func() {
		if p := recover(); p != nil {
			d, err = nil, fmt.Errorf("damaged: %v", p)
		}
	}()
	dbA, err := openBolt(a)
	if err != nil {
		return nil, err
	}
	defer dbA.Close()
	dbB, err := openBolt(b)
	if err != nil {
		return nil, err
	}
	defer dbB.Close()
	err = dbA.View(func(txA *bbolt.Tx) error {
		return dbB.View(func(txB *bbolt.Tx) error {
			d, err = buckets(txA.Cursor(), txB.Cursor(), txA.Bucket, txB.Bucket, depth)
			return err
		})
	})
	return d, err
}

// openBolt opens a copy of a database, for bolt wants a file.
func openBolt(s *io.SectionReader) (*bbolt.DB, error) {
	f, err := os.CreateTemp("", "compare")
	if err != nil {
		return nil, &spoolError{err}
	}
	// The database keeps its own file open.
	defer os.Remove(f.Name())
	defer f.Close()
	if _, err := io.Copy(&offsetWriter{f, 0}, start(s)); err != nil {
		return nil, err
	}
	return bbolt.Open(f.Name(), 0o600, &bbolt.Options{ReadOnly: true, Timeout: time.Second})
}

func buckets(a, b *bbolt.Cursor, bucketA, bucketB func([]byte) *bbolt.Bucket, depth int) (*Difference, error) {
	if depth > 2*maxDepth {
		return nil, errDepth
	}
	keyA, valueA := a.First()
	keyB, valueB := b.First()
	for keyA != nil || keyB != nil {
		if !bytes.Equal(keyA, keyB) {
			return &Difference{What: "key", A: keyText(keyA), B: keyText(keyB)}, nil
		}
		name := keyText(keyA)
		var d *Difference
		var err error
		switch {
		// A bucket has no value.
		case valueA == nil && valueB == nil:
			innerA, innerB := bucketA(keyA), bucketB(keyB)
			d, err = buckets(innerA.Cursor(), innerB.Cursor(), innerA.Bucket, innerB.Bucket, depth+1)
			if d == nil && err == nil {
				d = field("sequence", innerA.Sequence(), innerB.Sequence())
			}
		case valueA == nil || valueB == nil:
			kind := map[bool]string{true: "bucket", false: "value"}
			d = field("kind", kind[valueA == nil], kind[valueB == nil])
		default:
			d, err = contents(section(valueA), section(valueB), depth+1)
		}
		if err != nil || d != nil {
			return d.in(name), err
		}
		keyA, valueA = a.Next()
		keyB, valueB = b.Next()
	}
	return nil, nil
}

func section(b []byte) *io.SectionReader {
	return io.NewSectionReader(bytes.NewReader(b), 0, int64(len(b)))
}

func keyText(key []byte) string {
	if key == nil {
		return "the end"
	}
	if strings.IndexFunc(string(key), func(r rune) bool { return r < ' ' || r > '~' }) >= 0 {
		return fmt.Sprintf("%x", key)
	}
	return quote(string(key))
}

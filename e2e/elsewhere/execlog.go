package elsewhere

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"

	"google.golang.org/protobuf/encoding/protowire"
)

// Spawn is a process that Bazel ran for an action, or did not have to, since a cache had its outputs.
type Spawn struct {
	Label    string // of the target
	Mnemonic string // of the action
	Runner   string // linux-sandbox, remote cache hit …
	CacheHit bool
	// RemoteCacheable: whether its outputs may be in a cache that is shared.
	RemoteCacheable bool
	// Key is the action's key in caches, in hexadecimal digits; empty where it has none.
	Key string
	// Outputs are the paths of its outputs in Bazel's execution root.
	Outputs []string
}

// maxSpawn bounds what an execution log has of one process, its inputs most of all, in bytes.
const maxSpawn = 256 << 20

// Fields of Bazel's SpawnExec and of what is in it, as src/main/protobuf/spawn.proto numbers them.
const (
	spawnListedOutputs   = 5
	spawnMnemonic        = 10
	spawnRunner          = 12
	spawnCacheHit        = 13
	spawnRemoteCacheable = 16
	spawnTargetLabel     = 18
	spawnDigest          = 19
	digestHash           = 1
)

// ExecutionLog are the options that make Bazel write the file that ReadExecutionLog reads. The compact form of the log would
// be smaller, but Debian's Bazel comes without the library that it is compressed with.
func ExecutionLog(path string) []string {
	return []string{"--execution_log_binary_file=" + path, "--noexecution_log_sort"}
}

// ReadExecutionLog reads the binary form of Bazel's execution log: all processes of a build, in no order.
func ReadExecutionLog(path string) ([]Spawn, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	spawns, err := readExecutionLog(f)
	if err != nil {
		return nil, fmt.Errorf("read execution log %s: %w", path, err)
	}
	return spawns, nil
}

func readExecutionLog(r io.Reader) ([]Spawn, error) {
	b := bufio.NewReaderSize(r, 1<<20)
	var spawns []Spawn
	var buf bytes.Buffer
	for {
		size, err := binary.ReadUvarint(b)
		if errors.Is(err, io.EOF) {
			return spawns, nil
		}
		if err == nil && size > maxSpawn {
			err = fmt.Errorf("%d bytes, more than %d", size, maxSpawn)
		}
		if err == nil {
			buf.Reset()
			// Memory grows with what is there, not with what the size says.
			_, err = io.CopyN(&buf, b, int64(size))
			if errors.Is(err, io.EOF) {
				err = io.ErrUnexpectedEOF
			}
		}
		var s Spawn
		if err == nil {
			s, err = spawn(buf.Bytes())
		}
		if err != nil {
			return nil, fmt.Errorf("process %d: %w", len(spawns), err)
		}
		spawns = append(spawns, s)
	}
}

func spawn(message []byte) (Spawn, error) {
	var s Spawn
	err := fields(message, func(number protowire.Number, value uint64, content []byte) error {
		switch number {
		case spawnListedOutputs:
			s.Outputs = append(s.Outputs, string(content))
		case spawnTargetLabel:
			s.Label = string(content)
		case spawnMnemonic:
			s.Mnemonic = string(content)
		case spawnRunner:
			s.Runner = string(content)
		case spawnCacheHit:
			s.CacheHit = value != 0
		case spawnRemoteCacheable:
			s.RemoteCacheable = value != 0
		case spawnDigest:
			return fields(content, func(number protowire.Number, _ uint64, content []byte) error {
				if number == digestHash {
					s.Key = string(content)
				}
				return nil
			})
		}
		return nil
	})
	return s, err
}

// fields calls visit for each field of a message: with its value if it is a number, with its content if it has a length.
func fields(message []byte, visit func(number protowire.Number, value uint64, content []byte) error) error {
	for len(message) > 0 {
		number, kind, n := protowire.ConsumeTag(message)
		if n < 0 {
			return protowire.ParseError(n)
		}
		message = message[n:]
		var value uint64
		var content []byte
		switch kind {
		case protowire.VarintType:
			value, n = protowire.ConsumeVarint(message)
		case protowire.BytesType:
			content, n = protowire.ConsumeBytes(message)
		default:
			n = protowire.ConsumeFieldValue(number, kind, message)
		}
		if n < 0 {
			return protowire.ParseError(n)
		}
		message = message[n:]
		if err := visit(number, value, content); err != nil {
			return err
		}
	}
	return nil
}

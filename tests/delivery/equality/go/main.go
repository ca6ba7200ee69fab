// Command equality asks the JsonLogic that flagd itself and its provider for Go
// are made of, with flagd's own operators as its specification has them.
//
//	equality <cases>
//
// It looks at every argument before it decides, so only contexts are asked in
// which every attribute is a text without space around it, or is missing.
package main

import (
	"bufio"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"math/bits"
	"os"
	"regexp"
	"strconv"
	"strings"

	"github.com/diegoholiveira/jsonlogic/v3"
)

const failuresShown = 5

type flag struct {
	DefaultVariant string          `json:"defaultVariant"`
	Targeting      json.RawMessage `json:"targeting"`
}

type line struct {
	Seed   int    `json:"seed"`
	Key    string `json:"key"`
	Config struct {
		Flags map[string]flag `json:"flags"`
	} `json:"config"`
	Cases []struct {
		Context map[string]any `json:"context"`
		V2      string         `json:"v2"`
	} `json:"cases"`
}

func main() {
	jsonlogic.AddOperator("starts_with", compare(strings.HasPrefix))
	jsonlogic.AddOperator("ends_with", compare(strings.HasSuffix))
	jsonlogic.AddOperator("fractional", fractional)
	jsonlogic.AddOperator("sem_ver", semVer)

	file, err := os.Open(os.Args[1])
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	passed, failed, skipped := 0, 0, 0
	lines := bufio.NewScanner(file)
	lines.Buffer(nil, 1<<24)
	for lines.Scan() {
		var line line
		if err := json.Unmarshal(lines.Bytes(), &line); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		flag := line.Config.Flags[line.Key]
		for _, one := range line.Cases {
			if !plain(one.Context) {
				skipped++
				continue
			}
			told, err := ask(flag, one.Context)
			if err == nil && told == one.V2 {
				passed++
				continue
			}
			failed++
			if failed <= failuresShown {
				fmt.Fprintf(os.Stderr, "seed %d: %q, expected %s: %v %v\n%s\n", line.Seed, one.Context, one.V2, told, err, flag.Targeting)
			}
		}
	}
	fmt.Printf("go: %d passed, %d failed (%d skipped: not only texts)\n", passed, failed, skipped)
	if failed > 0 || passed == 0 {
		os.Exit(1)
	}
}

func plain(context map[string]any) bool {
	for _, value := range context {
		text, isText := value.(string)
		if value != nil && (!isText || text == "" || strings.TrimSpace(text) != text) {
			return false
		}
	}
	return true
}

func ask(flag flag, context map[string]any) (any, error) {
	if flag.Targeting == nil {
		return flag.DefaultVariant, nil
	}
	var logic any
	if err := json.Unmarshal(flag.Targeting, &logic); err != nil {
		return nil, err
	}
	attributes := map[string]any{"$flagd": map[string]any{"flagKey": "", "timestamp": 0}}
	for name, value := range context {
		attributes[name] = value
	}
	told, err := jsonlogic.ApplyInterface(logic, attributes)
	if told == nil {
		// No rule matched.
		return flag.DefaultVariant, err
	}
	return told, err
}

func compare(test func(text, part string) bool) func(values, data any) any {
	return func(values, _ any) any {
		pair := values.([]any)
		text, isText := pair[0].(string)
		part, isPart := pair[1].(string)
		if !isText || !isPart {
			return nil
		}
		return test(text, part)
	}
}

func fractional(values, _ any) any {
	arguments := values.([]any)
	total := uint64(0)
	for _, side := range arguments[1:] {
		total += uint64(side.([]any)[1].(float64))
	}
	bucket := uint64(murmur3(arguments[0].(string))) * total >> 32
	end := uint64(0)
	for _, side := range arguments[1:] {
		end += uint64(side.([]any)[1].(float64))
		if bucket < end {
			return side.([]any)[0]
		}
	}
	return nil
}

// MurmurHash3 in its variant x86_32 with seed 0, over the UTF-8 of a text.
func murmur3(text string) uint32 {
	scramble := func(k uint32) uint32 { return bits.RotateLeft32(k*0xcc9e2d51, 15) * 0x1b873593 }
	bytes, hash := []byte(text), uint32(0)
	for ; len(bytes) >= 4; bytes = bytes[4:] {
		hash = bits.RotateLeft32(hash^scramble(binary.LittleEndian.Uint32(bytes)), 13)*5 + 0xe6546b64
	}
	var last [4]byte
	copy(last[:], bytes)
	hash ^= scramble(binary.LittleEndian.Uint32(last[:]))
	hash ^= uint32(len(text))
	hash = (hash ^ hash>>16) * 0x85ebca6b
	hash = (hash ^ hash>>13) * 0xc2b2ae35
	return hash ^ hash>>16
}

// Versions as flagd reads them: a v in front is let through, and what is
// missing of three numbers is zero, with a pre-release behind it or not.
var version = regexp.MustCompile(`^[vV]?(0|[1-9]\d*)(?:\.(0|[1-9]\d*))?(?:\.(0|[1-9]\d*))?` +
	`(?:-((?:0|[1-9]\d*|\d*[a-zA-Z-][0-9a-zA-Z-]*)(?:\.(?:0|[1-9]\d*|\d*[a-zA-Z-][0-9a-zA-Z-]*))*))?` +
	`(?:\+[0-9a-zA-Z-]+(?:\.[0-9a-zA-Z-]+)*)?$`)

func semVer(values, _ any) any {
	arguments := values.([]any)
	left, right := parts(arguments[0]), parts(arguments[2])
	if left == nil || right == nil {
		return nil
	}
	switch order := order(left, right); arguments[1] {
	case "<":
		return order < 0
	case ">=":
		return order >= 0
	case "~":
		return number(left[1]) == number(right[1]) && number(left[2]) == number(right[2])
	}
	return nil
}

func parts(value any) []string {
	text, _ := value.(string)
	return version.FindStringSubmatch(text)
}

func number(text string) int {
	value, _ := strconv.Atoi(text)
	return value
}

func order(left, right []string) int {
	for place := 1; place <= 3; place++ {
		if difference := number(left[place]) - number(right[place]); difference != 0 {
			return difference
		}
	}
	switch {
	case left[4] == right[4]:
		return 0
	case left[4] == "":
		return 1
	case right[4] == "":
		return -1
	}
	a, b := strings.Split(left[4], "."), strings.Split(right[4], ".")
	for place := range min(len(a), len(b)) {
		x, xErr := strconv.Atoi(a[place])
		y, yErr := strconv.Atoi(b[place])
		switch {
		case a[place] == b[place]:
		case xErr == nil && yErr == nil:
			return x - y
		case xErr == nil:
			return -1
		case yErr == nil:
			return 1
		default:
			return strings.Compare(a[place], b[place])
		}
	}
	return len(a) - len(b)
}

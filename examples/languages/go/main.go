// A CGI program: text in, JSON with its most frequent words out. ?top=3 says how many.
package main

import (
	"bufio"
	"encoding/json"
	"net/http"
	"net/http/cgi"
	"os"
	"sort"
	"strconv"
	"strings"
	"unicode"
)

const topDefault = 10

type word struct {
	Word  string `json:"word"`
	Count int    `json:"count"`
}

func main() {
	if err := cgi.Serve(http.HandlerFunc(answer)); err != nil {
		os.Stderr.WriteString(err.Error() + "\n")
		os.Exit(1)
	}
}

func answer(w http.ResponseWriter, r *http.Request) {
	top := topDefault
	if asked := r.URL.Query().Get("top"); asked != "" {
		n, err := strconv.Atoi(asked)
		if err != nil || n < 1 {
			http.Error(w, "top is a number from 1 on", http.StatusBadRequest)
			return
		}
		top = n
	}
	counts := map[string]int{}
	text := bufio.NewScanner(r.Body)
	text.Split(bufio.ScanWords)
	for text.Scan() {
		isNoLetter := func(c rune) bool { return !unicode.IsLetter(c) }
		if found := strings.ToLower(strings.TrimFunc(text.Text(), isNoLetter)); found != "" {
			counts[found]++
		}
	}
	if err := text.Err(); err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	words := make([]word, 0, len(counts))
	for found, count := range counts {
		words = append(words, word{found, count})
	}
	sort.Slice(words, func(i, j int) bool {
		if words[i].Count != words[j].Count {
			return words[i].Count > words[j].Count
		}
		return words[i].Word < words[j].Word
	})
	w.Header().Set("Content-Type", "application/json")
	json.NewEncoder(w).Encode(words[:min(top, len(words))])
}

package walk

import (
	"bytes"
	"errors"
	"log/slog"
	"slices"
	"strings"
	"testing"

	"resinos/services/bootreport"
	"resinos/services/log/line"
)

func TestWalkSurvivesPanicAndStopsAtFatal(t *testing.T) {
	var log bytes.Buffer
	record := bootreport.New(bootreport.Report{})
	w := Walker{Stage: bootreport.StageRoot, Record: record, Log: slog.New(line.New(&log, nil))}
	ran := false
	err := w.Walk([]Action{
		{"fine", bootreport.Fatal, func() error { return nil }},
		{"broken", bootreport.Degraded, func() error { panic("not a step") }},
		{"minor", bootreport.Ignorable, func() error { return errors.New("no such thing") }},
		{"needed", bootreport.Fatal, func() error { return errors.New("gone") }},
		{"never", bootreport.Fatal, func() error { ran = true; return nil }},
	})
	if err == nil || ran {
		t.Errorf("Walk = %v, ran on: %v", err, ran)
	}
	var results []string
	for _, s := range record.Report().Steps {
		results = append(results, s.Result)
	}
	if want := []string{bootreport.ResultOK, bootreport.ResultDegraded, bootreport.ResultIgnored,
		bootreport.ResultFatal}; !slices.Equal(results, want) {
		t.Errorf("results %q, want %q", results, want)
	}
	if text := log.String(); !strings.Contains(text, "<6>step 1/5 fine 0s\n") ||
		!strings.Contains(text, "<4>step 2/5 broken") || strings.Count(text, "\n") != 4 {
		t.Errorf("log:\n%s", text)
	}
}

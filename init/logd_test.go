package main

import (
	"bytes"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"resinos/services/logd"
)

func TestSettleLog(t *testing.T) {
	for _, test := range []struct {
		config string
		size   int64
		wanted bool
		said   string
	}{
		{``, 0, false, ""},
		{`{"log": {"size": "16M"}, "persistentLogging": true}`, 16 << 20, true, ""},
		{`{"log": {"size": 1048576}, "persistentLogging": "1"}`, 1 << 20, true, ""},
		{"\xef\xbb\xbf" + `{"log": {"size": " 64k "}, "persistentLogging": "false"}`, 64 << 10, false, ""},
		{`{"log": {"size": null, "other": 1}}`, 0, false, ""},
		{`{"log": null}`, 0, false, ""},
		{`{"log": "16M", "persistentLogging": true}`, 0, true, "want an object"},
		{`{"log": {"size": "much"}}`, 0, false, "not a number like 8M"},
		{`{"log": {"size": 1000}}`, 0, false, "not between"},
		{`{"log": {"size": -1}}`, 0, false, "not a number like 8M"},
		{`{"log": {"size": "1G"}}`, 0, false, "more than 32M"},
		{`{"log": {"size": [1]}}`, 0, false, "not a number like 8M"},
		{`{"log": {"size": "16M"}`, 0, false, ""}, // PID 1 says that it is no JSON
	} {
		path := filepath.Join(t.TempDir(), "config.json")
		if test.config != "" {
			if err := os.WriteFile(path, []byte(test.config), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		var said bytes.Buffer
		var cfg logd.Config
		settleLog(&cfg, path, slog.New(slog.NewTextHandler(&said, nil)))
		if cfg.RingBytes != test.size || cfg.Archive.Wanted() != test.wanted || (said.Len() > 0) != (test.said != "") || !strings.Contains(said.String(), test.said) {
			t.Errorf("%s: ring %d, kept %v, said %q", test.config, cfg.RingBytes, cfg.Archive.Wanted(), &said)
		}
		if cfg.Archive.Dir != "/mnt/data/root-overlay/var/log/journal" {
			t.Errorf("archive in %s", cfg.Archive.Dir)
		}
	}
}

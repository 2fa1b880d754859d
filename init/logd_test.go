package main

import (
	"log/slog"
	"os"
	"path/filepath"
	"testing"

	"resinos/services/config"
	"resinos/services/log/logd"
	"resinos/services/settings"
)

func TestSettleLog(t *testing.T) {
	for _, test := range []struct {
		config string
		size   int64
		wanted bool
	}{
		{``, 0, false},
		{`{"log": {"size": "16M"}, "persistentLogging": true}`, 16 << 20, true},
		{`{"log": {"size": 1048576}, "persistentLogging": "1"}`, 1 << 20, true},
		{"\xef\xbb\xbf" + `{"log": {"size": " 64k "}, "persistentLogging": "false"}`, 64 << 10, false},
		{`{"log": {"size": null, "other": 1}}`, 0, false},
		{`{"log": null}`, 0, false},
		{`{"log": "16M", "persistentLogging": true}`, 0, true},
		{`{"log": {"size": "much"}}`, 0, false},
		{`{"log": {"size": 1000}}`, 0, false},
		{`{"log": {"size": -1}}`, 0, false},
		{`{"log": {"size": "32M"}}`, 32 << 20, false},
		{`{"log": {"size": "33M"}}`, 0, false},
		{`{"log": {"size": "1G"}}`, 0, false},
		{`{"log": {"size": [1]}}`, 0, false},
		{`{"log": {"size": "16M"}`, 0, false},
	} {
		path := filepath.Join(t.TempDir(), "config.json")
		if test.config != "" {
			if err := os.WriteFile(path, []byte(test.config), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		var cfg logd.Config
		settleLog(&cfg, path, slog.New(slog.DiscardHandler))
		if cfg.RingBytes != test.size || cfg.Archive.Wanted() != test.wanted {
			t.Errorf("%s: ring %d, kept %v", test.config, cfg.RingBytes, cfg.Archive.Wanted())
		}
		if cfg.Archive.Dir != "/mnt/data/root-overlay/var/log/journal" {
			t.Errorf("archive in %s", cfg.Archive.Dir)
		}
	}
}

// logd follows persistentLogging while it runs, and says of log.size that it does not.
func TestFollowLog(t *testing.T) {
	var cfg logd.Config
	s := settleLog(&cfg, filepath.Join(t.TempDir(), "none"), slog.New(slog.DiscardHandler))
	now := func(text string) settings.Settings {
		d, err := config.Parse([]byte(text))
		if err != nil {
			t.Fatal(err)
		}
		return config.Effective(d, settings.File)
	}
	for _, text := range []string{`{"persistentLogging": true}`, `{"persistentLogging": false}`,
		`{"persistentLogging": true}`} {
		if err := s.apply(now(text)); err != nil {
			t.Error(err)
		}
	}
	select {
	case <-cfg.Archive.Changed:
	default:
		t.Error("nothing is told")
	}
	if !cfg.Archive.Wanted() {
		t.Error("the last word does not count")
	}
	if s.apply(now(`{"persistentLogging": true, "log": {"size": "4M"}}`)) == nil {
		t.Error("a size that is not in force is not told of")
	}
	select {
	case <-cfg.Archive.Changed:
		t.Error("told of no change")
	default:
	}
}

package main

import (
	"encoding/binary"
	"path/filepath"
	"testing"

	"github.com/containerd/containerd/v2/core/metadata"
	bolt "go.etcd.io/bbolt"
)

// TestDatabaseVersion: the engine changes its database to the version of its library as soon as it starts, on trial
// too, and the version before has to read it after a rollback. If this test fails, a new library has raised the
// version: have a device with the library before go on with a database of the new one, then raise the number here.
func TestDatabaseVersion(t *testing.T) {
	const tested = 4
	db, err := bolt.Open(filepath.Join(t.TempDir(), "meta.db"), 0o600, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	if err := metadata.NewDB(db, nil, nil).Init(t.Context()); err != nil {
		t.Fatal(err)
	}
	err = db.View(func(tx *bolt.Tx) error {
		schema := tx.Bucket([]byte("v1"))
		if schema == nil {
			t.Error("the engine's database has another schema than v1")
			return nil
		}
		if version, _ := binary.Varint(schema.Get([]byte("version"))); version != tested {
			t.Errorf("the engine's database has version %d, a rollback was tested with %d", version, tested)
		}
		return nil
	})
	if err != nil {
		t.Error(err)
	}
}

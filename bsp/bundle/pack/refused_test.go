package pack_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"

	"github.com/klauspost/compress/zstd"
	"golang.org/x/mod/sumdb/note"

	"resinos/bsp/bundle"
	"resinos/bsp/bundle/index"
	"resinos/bsp/bundle/policy"
	"resinos/bsp/bundle/trust"
)

// running is the device of these tests.
var running = policy.Running{
	Board: "qemu-x86_64", Variant: "development", Version: "1.2.0", RollbackIndex: 7, SlotSize: 2 << 20,
}

// refusal is a bundle that a device must not install.
type refusal struct {
	src  bundle.Source
	keys trust.Keys
	want string // part of the error
}

// update does what a device does with a bundle, in the same order.
func update(t *testing.T, src bundle.Source, keys trust.Keys, s *slot) error {
	b, err := bundle.Open(src, keys)
	if err != nil {
		return err
	}
	if err := (policy.Policy{}).Check(b.Manifest(), running); err != nil {
		return err
	}
	if err := b.Verify(t.Context(), nil); err != nil {
		return err
	}
	return b.Install(t.Context(), nil, 0, s, nil)
}

// maker makes bundles that are wrong.
type maker struct {
	t        *testing.T
	img      []byte
	a, b     key
	trust    trust.Keys
	good     []byte
	manifest bundle.Manifest // of good
	cases    map[string]refusal
}

func newMaker(t *testing.T) *maker {
	m := &maker{t: t, img: image(1), a: newKey(t, "a"), b: newKey(t, "b"), cases: map[string]refusal{}}
	m.trust = trusting(1, m.a)
	m.good = write(t, manifest(len(m.img)), m.img, m.a)
	opened, err := bundle.Open(&file{data: m.good}, m.trust)
	if err != nil {
		t.Fatal(err)
	}
	m.manifest = opened.Manifest()
	return m
}

func (m *maker) add(name, want string, data []byte) {
	m.cases[name] = refusal{&file{data: data}, m.trust, want}
}

func (m *maker) with(name, want string, data []byte, keys trust.Keys) {
	m.cases[name] = refusal{&file{data: data}, keys, want}
}

// body returns what follows the note of the good bundle.
func (m *maker) body() []byte { return m.good[m.bodyAt():] }

func (m *maker) bodyAt() int { return 12 + int(binary.BigEndian.Uint32(m.good[8:12])) }

// signed returns a bundle with this text as its note, rightly signed, and the body of the good one.
func (m *maker) signed(text string, keys ...key) []byte {
	m.t.Helper()
	var all []note.Signer
	for _, k := range keys {
		s, err := note.NewSigner(k.private)
		if err != nil {
			m.t.Fatal(err)
		}
		all = append(all, s)
	}
	signed, err := note.Sign(&note.Note{Text: text}, all...)
	if err != nil {
		m.t.Fatal(err)
	}
	return m.head(signed)
}

func (m *maker) head(signed []byte) []byte {
	head, err := bundle.Head(signed)
	if err != nil {
		m.t.Fatal(err)
	}
	return append(head, m.body()...)
}

// changed returns the bundle whose manifest was changed before it was signed.
func (m *maker) changed(change func(*bundle.Manifest)) []byte {
	other := m.manifest
	change(&other)
	text, err := other.Encode()
	if err != nil {
		m.t.Fatal(err)
	}
	return m.signed(string(text), m.a)
}

// indexed returns a rightly signed bundle with these entries and stored bytes.
func (m *maker) indexed(list []byte, data []byte) []byte {
	sum := sha256.Sum256(list)
	out := m.changed(func(x *bundle.Manifest) {
		x.Index = bundle.Index{Size: int64(len(list)), SHA256: hex.EncodeToString(sum[:])}
		x.Data = int64(len(data))
	})
	out = out[:len(out)-len(m.body())]
	return append(append(out, list...), data...)
}

// entries returns the index of the good bundle as values, and its stored bytes.
func (m *maker) entries() ([]index.Entry, []byte) {
	list := m.body()[:m.manifest.Index.Size]
	entries, err := index.Parse(list, m.manifest.Slot.Size, m.manifest.Data)
	if err != nil {
		m.t.Fatal(err)
	}
	return entries, bytes.Clone(m.body()[m.manifest.Index.Size:])
}

// TestRefused installs wrong bundles: each is refused before the first write, with an error that says why.
func TestRefused(t *testing.T) {
	m := newMaker(t)
	if err := update(t, &file{data: m.good}, m.trust, &slot{data: make([]byte, len(m.img))}); err != nil {
		t.Fatalf("the good bundle: %v", err)
	}
	m.signatures()
	m.manifests()
	m.policies()
	m.truncations()
	m.flips()
	m.indexes()
	m.mixtures()
	m.bombs()
	m.swaps()
	if len(m.cases) < 100 {
		t.Errorf("%d cases, want 100", len(m.cases))
	}
	t.Logf("%d bundles", len(m.cases))
	for name, c := range m.cases {
		s := &slot{data: make([]byte, len(m.img))}
		err := update(t, c.src, c.keys, s)
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %q", name, err, c.want)
		}
		if s.writes > 0 {
			t.Errorf("%s: %d writes to the slot", name, s.writes)
		}
	}
}

func (m *maker) signatures() {
	text, err := m.manifest.Encode()
	if err != nil {
		m.t.Fatal(err)
	}
	sign := func(keys ...key) []byte { return m.signed(string(text), keys...) }
	revoked := trusting(1, m.a, m.b)
	revoked.Revoked = []string{trust.KeyID(m.a.public)}
	two := trusting(2, m.a, m.b, newKey(m.t, "c"))
	twoRevoked := two
	twoRevoked.Revoked = []string{m.a.public}
	m.add("not signed", "malformed", m.head(append(bytes.Clone(text), '\n')))
	m.add("signed by nobody", "malformed", sign())
	m.add("signed by another key", "0 of 1 needed; b+", sign(m.b))
	m.with("the same name, another key", "not trusted", sign(m.a), trusting(1, otherKey(m.t, "a")))
	m.with("one of two", "1 of 2 needed", sign(m.a), two)
	m.with("one of two and a stranger", "1 of 2 needed; d+", sign(m.a, newKey(m.t, "d")), two)
	m.with("revoked", "is revoked", sign(m.a), revoked)
	m.with("two, one revoked", "1 of 2 needed; a+", sign(m.a, m.b), twoRevoked)
	m.with("no trusted keys", "trusts no key", sign(m.a), trust.Keys{})
	all := trust.Keys{Threshold: 1, Public: []string{m.a.public}, Revoked: []string{m.a.public}}
	m.with("all keys revoked", "trusts no key", sign(m.a), all)
	m.with("threshold of none", "threshold 0", sign(m.a), trust.Keys{Public: []string{m.a.public}})
	m.with("threshold too high", "threshold 2", sign(m.a), trusting(2, m.a))
	m.with("a key that is none", "want a line", sign(m.a), trusting(1, m.a, key{public: "x+y"}))
	whole := sign(m.a)
	signed := string(whole[12 : len(whole)-len(m.body())])
	at := strings.LastIndex(signed, "\n\n")
	m.with("the same signature twice", "1 of 2 needed", m.head([]byte(signed+signed[at+2:])), two)
	m.add("a signature of something else", "is wrong", m.head([]byte(strings.Replace(signed, "1.2.3", "1.2.4", 1))))
	m.add("a signature cut short", "malformed", m.head([]byte(signed[:len(signed)-10])))
	m.add("no blank line", "malformed", m.head([]byte(strings.Replace(signed, "\n\n", "\n", 1))))
	m.add("a carriage return", "malformed", m.head([]byte(strings.Replace(signed, "\n", "\r\n", 1))))
	m.add("not UTF-8", "malformed", m.head([]byte(strings.Replace(signed, "qemu", "\xff\xfe", 1))))
	m.add("a NUL", "malformed", m.head([]byte(strings.Replace(signed, "qemu", "\x00", 1))))
	flood := signed
	for n := range 101 {
		flood += fmt.Sprintf("— x%d AAAAAAAAAAAA\n", n)
	}
	m.add("a flood of signatures", "malformed", m.head([]byte(flood)))
	for _, from := range []string{`"board": "`, `"version": "`, `"rollback_index": `, `"sha256": "`, `"data": `} {
		m.add("changed after signing: "+from, "is wrong", m.head([]byte(strings.Replace(signed, from, from+"9", 1))))
	}
}

// named returns the change to a boot file of another name.
func named(name string) func(*bundle.Manifest) {
	return func(x *bundle.Manifest) { x.Boot = []bundle.BootFile{{Name: name}} }
}

func (m *maker) manifests() {
	for text, want := range map[string]string{
		"\n": "parse manifest", "hello\n": "parse manifest", "[]\n": "parse manifest",
		"{}\n": "format 0", "{} {}\n": "parse manifest",
		"{\"format\": 2}\n": "no board", "{\"format\": \"1\"}\n": "parse manifest", "null\n": "format 0",
	} {
		m.add("signed text "+text, want, m.signed(text, m.a))
	}
	for name, c := range map[string]struct {
		change func(*bundle.Manifest)
		want   string
	}{
		"format of the future":   {func(x *bundle.Manifest) { x.Format = 3 }, "format 3"},
		"no board":               {func(x *bundle.Manifest) { x.Board = "" }, "no board"},
		"no variant":             {func(x *bundle.Manifest) { x.Variant = "" }, "no variant"},
		"no version":             {func(x *bundle.Manifest) { x.Version = "" }, "no version"},
		"version of two numbers": {func(x *bundle.Manifest) { x.Version = "1.2" }, "version"},
		"version with a path":    {func(x *bundle.Manifest) { x.Version = "1.2.3/../.." }, "version"},
		"version with a zero":    {func(x *bundle.Manifest) { x.Version = "1.02.3" }, "version"},
		"oldest version: a word": {func(x *bundle.Manifest) { x.MinFrom = "any" }, "min_from"},
		"negative index":         {func(x *bundle.Manifest) { x.RollbackIndex = -1 }, "rollback index"},
		"fast forward":           {func(x *bundle.Manifest) { x.RollbackIndex = 1<<63 - 1 }, "rollback index"},
		"slot of nothing":        {func(x *bundle.Manifest) { x.Slot.Size = 0 }, "slot size"},
		"negative slot":          {func(x *bundle.Manifest) { x.Slot.Size = -4096 }, "slot size"},
		"slot of odd size":       {func(x *bundle.Manifest) { x.Slot.Size++ }, "slot size"},
		"huge slot":              {func(x *bundle.Manifest) { x.Slot.Size = 1 << 62 }, "slot size"},
		"slot without digest":    {func(x *bundle.Manifest) { x.Slot.SHA256 = "" }, "sha256"},
		"digest in capitals":     {func(x *bundle.Manifest) { x.Slot.SHA256 = strings.Repeat("AB", 32) }, "sha256"},
		"short digest":           {func(x *bundle.Manifest) { x.Index.SHA256 = x.Index.SHA256[:62] }, "sha256"},
		"verity hash":            {func(x *bundle.Manifest) { x.Root.VerityHash = "x" }, "verity"},
		"no index":               {func(x *bundle.Manifest) { x.Index.Size = 0 }, "index size"},
		"part of an entry":       {func(x *bundle.Manifest) { x.Index.Size++ }, "index size"},
		"huge index":             {func(x *bundle.Manifest) { x.Index.Size = 40 << 30 }, "index size"},
		"negative data":          {func(x *bundle.Manifest) { x.Data = -1 }, "data size"},
		"more data than slot":    {func(x *bundle.Manifest) { x.Data = x.Slot.Size + 1 }, "data size"},
		"less data than stored":  {func(x *bundle.Manifest) { x.Data-- }, "appended"},
		"more data than stored":  {func(x *bundle.Manifest) { x.Data++ }, "cut short"},
		"boot file outside":      {named("../x"), "boot file"},
		"absolute boot file":     {named("/x"), "boot file"},
		"boot file: directory":   {named("."), "boot file"},
		"boot file twice": {func(x *bundle.Manifest) {
			x.Boot = append(x.Boot, bundle.BootFile{Name: "BOOT.SCR", SHA256: strings.Repeat("ab", 32)})
		}, "twice"},
		"boot file: negative": {func(x *bundle.Manifest) { x.Boot[0].Size = -1 }, "boot file"},
	} {
		c := c
		m.add(name, c.want, m.changed(func(x *bundle.Manifest) {
			x.Boot = append([]bundle.BootFile(nil), x.Boot...)
			c.change(x)
		}))
	}
}

func (m *maker) policies() {
	for name, c := range map[string]struct {
		change func(*bundle.Manifest)
		want   string
	}{
		"another board":    {func(x *bundle.Manifest) { x.Board = "toaster" }, "another board"},
		"another variant":  {func(x *bundle.Manifest) { x.Variant = "production" }, "another variant"},
		"older":            {func(x *bundle.Manifest) { x.Version = "1.1.9" }, "older"},
		"the same":         {func(x *bundle.Manifest) { x.Version = "1.2.0" }, "runs already"},
		"a pre-release":    {func(x *bundle.Manifest) { x.Version = "1.2.0-rc.1" }, "older"},
		"withdrawn":        {func(x *bundle.Manifest) { x.RollbackIndex = 6 }, "withdrawn"},
		"too large a step": {func(x *bundle.Manifest) { x.MinFrom = "1.2.1" }, "too old"},
	} {
		m.add(name, c.want, m.changed(c.change))
	}
	big := append(bytes.Clone(m.img), make([]byte, 4096)...)
	m.add("too large", "too small", write(m.t, manifest(len(big)), big, m.a))
}

func (m *maker) truncations() {
	list, data := m.bodyAt(), m.bodyAt()+int(m.manifest.Index.Size)
	for _, at := range []int{
		0, 1, 7, 8, 11, 12, 13, list / 2, list - 1, list, list + 1, list + 39,
		data - 1, data, data + 1, (data + len(m.good)) / 2, len(m.good) - 1,
	} {
		want := "cut short"
		if at < list {
			want = "unexpected EOF"
		}
		m.add(fmt.Sprintf("cut at %d", at), want, m.good[:at])
	}
	for _, n := range []int{1, 4096, 1 << 20} {
		m.add(fmt.Sprintf("%d bytes appended", n), "appended", append(bytes.Clone(m.good), make([]byte, n)...))
	}
	for name, c := range map[string]struct {
		head, want string
	}{
		"another file":   {"PK\x03\x04 hello, I am a zip file", "like a bundle"},
		"another format": {"RESINB2\n\x00\x00\x00\x10aaaaaaaaaaaaaaaaaaaaa", "like a bundle"},
		"empty manifest": {"RESINB1\n\x00\x00\x00\x00", "manifest has 0"},
		"huge manifest":  {"RESINB1\n\xff\xff\xff\xff", "manifest has 4294967295"},
	} {
		m.add(name, c.want, []byte(c.head))
	}
}

// flips changes one bit in each part of the file.
func (m *maker) flips() {
	step := len(m.good) / 40
	for at := step / 2; at < len(m.good); at += step {
		m.flip(at)
	}
	for at := 12; at < m.bodyAt(); at += m.bodyAt() / 12 {
		m.flip(at)
	}
	for at := m.bodyAt(); at < m.bodyAt()+int(m.manifest.Index.Size); at += int(m.manifest.Index.Size) / 8 {
		m.flip(at)
	}
}

func (m *maker) flip(at int) {
	data := bytes.Clone(m.good)
	data[at] ^= 4
	want := "chunk at"
	switch {
	case at < m.bodyAt():
		want = "signatures of the bundle are not enough"
	case at < m.bodyAt()+int(m.manifest.Index.Size):
		want = "made of two"
	}
	m.add(fmt.Sprintf("bit of byte %d", at), want, data)
}

func (m *maker) indexes() {
	type list = []index.Entry
	type change = func(list) list
	// at returns the change of one entry; -1 is the last.
	at := func(n int, change func(e *index.Entry)) change {
		return func(l list) list {
			change(&l[(n+len(l))%len(l)])
			return l
		}
	}
	for name, c := range map[string]struct {
		change change
		want   string
	}{
		"missing entry":        {func(l list) list { return l[:len(l)-1] }, "covers"},
		"further entry":        {func(l list) list { return append(l, l[len(l)-1]) }, "ends beyond"},
		"empty chunk":          {at(0, func(e *index.Entry) { e.Length = 0 }), "chunk of 0 bytes"},
		"large chunk":          {at(0, func(e *index.Entry) { e.Length = 1 << 30 }), "chunk of 1073741824 bytes"},
		"grown by bytes":       {at(0, func(e *index.Entry) { e.Stored = e.Length + 1 }), "are stored for"},
		"never stored":         {at(0, func(e *index.Entry) { e.Stored = 0 }), "is not stored"},
		"wrong digest":         {at(0, func(e *index.Entry) { e.Digest[0] ^= 1 }), "chunk at 0"},
		"empty zeros":          {at(-1, func(e *index.Entry) { e.Length = 0 }), "run of 0 zeros"},
		"long zeros":           {at(-1, func(e *index.Entry) { e.Length = 1 << 31 }), "zeros"},
		"stored zeros":         {at(-1, func(e *index.Entry) { e.Stored = 5 }), "5 stored bytes"},
		"stored twice":         {func(l list) list { l[1].Digest = l[0].Digest; return l }, "stored twice"},
		"two in another order": {func(l list) list { l[0], l[1] = l[1], l[0]; return l }, "chunk at"},
		"repeated longer": {func(l list) list {
			l[1].Digest, l[1].Stored, l[1].Length = l[0].Digest, 0, l[0].Length+1
			return l
		}, "is not stored"},
	} {
		entries, data := m.entries()
		m.add("index: "+name, c.want, m.indexed(index.Encode(c.change(entries)), data))
	}
}

func (m *maker) mixtures() {
	other := image(77)
	second := write(m.t, manifest(len(other)), other, m.a)
	at := 12 + int(binary.BigEndian.Uint32(second[8:12]))
	m.add("head of one, rest of another", "its manifest says", append(bytes.Clone(m.good[:m.bodyAt()]), second[at:]...))
	resized := bytes.Clone(m.good)
	copy(resized[m.bodyAt():m.bodyAt()+int(m.manifest.Index.Size)], second[at:])
	m.add("index of another", "made of two", resized)
	chunks := bytes.Clone(m.good)
	copy(chunks[m.bodyAt()+int(m.manifest.Index.Size):], random(99, len(chunks)))
	m.add("chunks of another", "chunk at 0", chunks)
}

// bombs has stored bytes that are more, or less, than they seem.
func (m *maker) bombs() {
	z, err := zstd.NewWriter(nil, zstd.WithEncoderConcurrency(1))
	if err != nil {
		m.t.Fatal(err)
	}
	defer z.Close()
	entries, data := m.entries()
	var plain bytes.Buffer
	// A stream has a frame without a size.
	stream, err := zstd.NewWriter(&plain, zstd.WithEncoderConcurrency(1), zstd.WithWindowSize(8<<20))
	if err != nil {
		m.t.Fatal(err)
	}
	if _, err := io.CopyN(stream, zeros{}, 256<<20); err != nil {
		m.t.Fatal(err)
	}
	if err := stream.Close(); err != nil {
		m.t.Fatal(err)
	}
	for name, stored := range map[string][]byte{
		"256 MiB of zeros":       z.EncodeAll(make([]byte, 256<<20), nil),
		"a stream without size":  plain.Bytes(),
		"one byte too many":      z.EncodeAll(make([]byte, entries[0].Length+1), nil),
		"one byte too few":       z.EncodeAll(make([]byte, entries[0].Length-1), nil),
		"nothing":                z.EncodeAll([]byte{}, nil),
		"no zstd":                []byte("hello"),
		"half a frame":           data[:entries[0].Stored/2],
		"a window of gigabytes":  {0x28, 0xb5, 0x2f, 0xfd, 0x00, 0xf8, 0x01, 0x00, 0x00},
		"a size of exabytes":     []byte("\x28\xb5\x2f\xfd\xe0\xff\xff\xff\xff\xff\xff\xff\x7f\x01\x00\x00"),
		"frames without content": bytes.Repeat(z.EncodeAll([]byte{}, nil), 100),
	} {
		list := append([]index.Entry(nil), entries...)
		if int64(len(stored)) > list[0].Length-1 {
			stored = stored[:list[0].Length-1]
		}
		rest := data[list[0].Stored:]
		list[0].Stored = int64(len(stored))
		m.add("bomb: "+name, "chunk at 0", m.indexed(index.Encode(list), append(bytes.Clone(stored), rest...)))
	}
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) { clear(p); return len(p), nil }

// swapped is a file that becomes another one after some reads.
type swapped struct {
	first, then bundle.Source
	reads       int
}

func (s *swapped) Size() int64 { return s.first.Size() }

func (s *swapped) ReadAt(p []byte, at int64) (int, error) {
	if s.reads--; s.reads < 0 {
		return s.then.ReadAt(p, at)
	}
	return s.first.ReadAt(p, at)
}

// endless has a manifest, and sends for ever after it.
type endless struct{ file }

func (endless) Size() int64 { return 1 << 40 }

func (m *maker) swaps() {
	other := image(78)
	second := &file{data: write(m.t, manifest(len(other)), other, m.a)}
	good := func() *file { return &file{data: m.good} }
	m.cases["swapped before the note"] = refusal{&swapped{good(), second, 1}, m.trust, "its manifest says"}
	m.cases["swapped after the check"] = refusal{&swapped{good(), second, 2}, m.trust, "made of two"}
	m.cases["swapped after the index"] = refusal{&swapped{good(), second, 3}, m.trust, "chunk at"}
	m.cases["endless"] = refusal{&endless{*good()}, m.trust, "appended"}
	for n, part := range []string{"head", "note", "index", "chunks"} {
		gone := &file{fail: func(int64) error { return errors.New("disk on fire") }}
		m.cases["read error in the "+part] = refusal{&swapped{good(), gone, n}, m.trust, "disk on fire"}
	}
}

// TestSwappedWhileInstalling replaces the file while it is installed, at each of its reads: no wrong byte reaches the
// slot, and the good bundle can be installed afterwards.
func TestSwappedWhileInstalling(t *testing.T) {
	m := newMaker(t)
	bad := random(3, len(m.good))
	for reads := 3; ; reads++ {
		b, err := bundle.Open(&swapped{&file{data: m.good}, &file{data: bad}, reads}, m.trust)
		if err != nil {
			t.Fatal(err)
		}
		s := &slot{data: make([]byte, len(m.img))}
		err = b.Install(t.Context(), nil, 0, s, nil)
		for at := 0; at < len(s.data); at += 4096 {
			if !isPartly(s.data[at:at+4096], m.img[at:at+4096]) {
				t.Fatalf("after %d reads a wrong byte reached the slot at %d", reads, at)
			}
		}
		if err == nil {
			break // it was installed before the file was replaced
		}
		if !strings.Contains(err.Error(), "replaced meanwhile") && !strings.Contains(err.Error(), "unpack") {
			t.Errorf("after %d reads: %v", reads, err)
		}
		if _, err := install(t, &file{data: m.good}, m.trust, nil, s); err != nil || !bytes.Equal(s.data, m.img) {
			t.Errorf("the next installation: %v", err)
		}
	}
}

// isPartly reports whether got is want where it was written, and zero elsewhere.
func isPartly(got, want []byte) bool {
	for i := range got {
		if got[i] != want[i] && got[i] != 0 {
			return false
		}
	}
	return true
}

func FuzzOpen(f *testing.F) {
	k := newKey(f, "a")
	img := image(1)
	good := write(f, manifest(len(img)), img, k)
	f.Add(good[:4096], true)
	f.Add([]byte("RESINB1\n\x00\x00\x00\x05hello"), false)
	f.Fuzz(func(t *testing.T, text []byte, sign bool) {
		if sign { // the fuzzer cannot: let it write the manifest
			signer, err := note.NewSigner(k.private)
			if err != nil {
				t.Fatal(err)
			}
			signed, err := note.Sign(&note.Note{Text: strings.ToValidUTF8(string(text), "") + "\n"}, signer)
			if err != nil {
				return
			}
			if text, err = bundle.Head(signed); err != nil {
				return
			}
		}
		b, err := bundle.Open(&file{data: text}, trusting(1, k))
		if err != nil {
			return
		}
		again, err := b.Manifest().Encode()
		if err != nil {
			t.Fatal(err)
		}
		if _, err := bundle.ParseManifest(again); err != nil {
			t.Errorf("Open accepts what ParseManifest refuses: %v", err)
		}
	})
}

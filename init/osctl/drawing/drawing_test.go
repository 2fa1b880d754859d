package drawing

import (
	"context"
	"fmt"
	"html"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"resinos/init/osctl/cli/clitest"
	"resinos/init/osctl/picture/picturetest"
	"resinos/mounts/testenv"
)

// TestRun: the tool draws both pictures, and says what it can draw if it is asked for another.
func TestRun(t *testing.T) {
	place := clitest.Place{Main: run, Control: clitest.PID1(t)}
	for _, line := range []string{"boot", "graph", "graph manager", "graph --reverse logd"} {
		code, svg, messages := place.Do(t, strings.Fields(line)...)
		if code != 0 || messages != "" {
			t.Errorf("picture %s: exit %d: %s", line, code, messages)
		}
		picturetest.Check(t, svg)
	}
	for line, want := range map[string]int{"": 2, "nothing": 2, "boot now": 2, "graph nobody": 1} {
		code, svg, messages := place.Do(t, strings.Fields(line)...)
		if code != want || svg != "" || !strings.Contains(messages, "try: osctl ") {
			t.Errorf("picture %q: exit %d, want %d: %q %q", line, code, want, svg, messages)
		}
	}
}

// judge is a page that measures a picture with the fonts that the browser really uses: it lists texts that meet or
// leave the view, and counts what it has measured.
const judge = `<!doctype html><meta charset=utf-8><body style="margin:0">%s<pre id=verdict></pre><script>
const faults=[], view=document.querySelector('svg').getBoundingClientRect();
const texts=[...document.querySelectorAll('text')];
const boxes=texts.map(t=>t.getBoundingClientRect());
boxes.forEach((b,i)=>{
 if(b.left<view.left||b.right>view.right||b.top<view.top||b.bottom>view.bottom)
  faults.push('outside: '+texts[i].textContent);
 for(let j=0;j<i;j++){const o=boxes[j];
  if(b.left<o.right&&o.left<b.right&&b.top+3<o.bottom&&o.top+3<b.bottom)
   faults.push(texts[i].textContent+' meets '+texts[j].textContent)}});
document.getElementById('verdict').textContent='measured '+boxes.filter(b=>b.width>0).length+'; '+faults.join('; ');
</script>`

// TestBrowser: a real browser opens both pictures without a fault, as files of their own and in a page, where it finds
// no text on another. It is part of make prove.
func TestBrowser(t *testing.T) {
	if os.Getenv("RESINOS_PROVE") == "" {
		t.Skip("set RESINOS_PROVE, as make prove does: a browser has 400 MB of packages")
	}
	if _, err := exec.LookPath("chromium"); err != nil {
		testenv.Lacking(t, "a browser; install it with: apt-get install -y --no-install-recommends chromium")
	}
	place := clitest.Place{Main: run, Control: clitest.PID1(t)}
	for _, name := range []string{"boot", "graph"} {
		t.Run(name, func(t *testing.T) {
			_, svg, _ := place.Do(t, name)
			texts := len(picturetest.Check(t, svg))
			alone := open(t, name+".svg", svg)
			if strings.Contains(alone, "parsererror") || strings.Count(alone, "<text") != texts {
				t.Errorf("the browser shows %d texts of %d:\n%s", strings.Count(alone, "<text"), texts, alone)
			}
			page := open(t, name+".html", fmt.Sprintf(judge, svg))
			verdict := regexp.MustCompile(`<pre id="verdict">(.*)</pre>`).FindStringSubmatch(page)
			if want := fmt.Sprintf("measured %d; ", texts); verdict == nil || html.UnescapeString(verdict[1]) != want {
				t.Errorf("verdict of the browser = %q, want %q", verdict, want)
			}
		})
	}
	broken := open(t, "broken.svg", `<svg xmlns="http://www.w3.org/2000/svg"><text>&</text></svg>`)
	if !strings.Contains(broken, "parsererror") {
		t.Errorf("the browser does not report a broken picture, but shows:\n%s", broken)
	}
}

// open has the browser load a file, and returns the document that it shows.
func open(t *testing.T, name, content string) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(file, []byte(content), 0o644); err != nil {
		t.Fatal(err)
	}
	var messages strings.Builder
	browser := exec.CommandContext(context.WithoutCancel(t.Context()), "chromium", "--headless", "--no-sandbox",
		"--disable-gpu", "--user-data-dir="+t.TempDir(), "--dump-dom", "file://"+file)
	browser.Stderr = &messages
	out, err := browser.Output()
	if err != nil {
		t.Fatalf("open %s: %v\n%s", name, err, messages.String())
	}
	return string(out)
}

package recipe

import (
	"embed"
	"fmt"
	"strings"
	"text/template"
)

//go:embed templates/*.tmpl
var files embed.FS

// A template has sections, each behind a line of its own:
//
//	-- append /etc/postfix/master.cf --    text for a file; replace and run alike
//	-- steps --                            a command on each line
//	-- warnings --                         a warning on each line
//
// Empty lines around a section are not part of it.
func (k kind) fill(r *Recipe, f Facts) error {
	t, err := template.New("").Funcs(template.FuncMap{"join": strings.Join}).ParseFS(files, "templates/*.tmpl")
	if err != nil {
		return err
	}
	var text strings.Builder
	if err := t.ExecuteTemplate(&text, k.name+".tmpl", f); err != nil {
		return err
	}
	for section := range strings.SplitSeq("\n"+text.String(), "\n-- ") {
		head, body, _ := strings.Cut(section, " --\n")
		body = strings.Trim(body, "\n")
		switch verb, path, _ := strings.Cut(head, " "); {
		case verb == "steps":
			r.Steps = lines(body)
		case verb == "warnings":
			r.Warnings = lines(body)
		case path != "":
			r.Files = append(r.Files, File{Path: path, Mode: verb, Content: body + "\n"})
		}
	}
	return nil
}

// lines are those that have something on them.
func lines(text string) []string {
	all := []string{}
	for line := range strings.Lines(text) {
		if line = strings.TrimSpace(line); line != "" {
			all = append(all, line)
		}
	}
	return all
}

// Text is the whole recipe, to be pasted or read.
func (r *Recipe) Text() string {
	var w strings.Builder
	r.prose(&w, r.about, "")
	for _, warning := range r.Warnings {
		fmt.Fprintln(&w, r.comment)
		r.prose(&w, "WARNING: "+warning, "  ")
	}
	for _, f := range r.Files {
		fmt.Fprintf(&w, "\n%s --- %s ---\n%s %s\n\n%s", r.comment, f.Path, r.comment, manners[f.Mode], f.Content)
	}
	fmt.Fprintf(&w, "\n%s --- next ---\n", r.comment)
	for _, step := range r.Steps {
		fmt.Fprintf(&w, "%s   %s\n", r.comment, step)
	}
	return w.String()
}

// manners say what to do with a file's text.
var manners = map[string]string{
	"append":  "add this at the end",
	"replace": "this is the whole file",
	"insert":  "add this where its first line says",
	"run":     "type this in",
}

const width = 100 // of a comment, in octets

// prose writes a comment that wraps.
func (r *Recipe) prose(w *strings.Builder, text, indent string) {
	line := r.comment
	for i, word := range strings.Fields(text) {
		if i > 0 && len(line)+1+len(word) > width {
			fmt.Fprintln(w, line)
			line = r.comment + indent
		}
		line += " " + word
	}
	fmt.Fprintln(w, line)
}

// Package admin tells people and machines how smtpseal is, and takes their
// orders: health, metrics, a status page, and the few requests that change
// something.
//
//	GET  /livez                     200 as long as the process answers
//	GET  /readyz                    200, or 503 with the reasons, a line each (?verbose: all there is to say)
//	GET  /metrics                   for Prometheus
//	GET  /status                    a Status as JSON
//	GET  /                          the same for people
//	POST /drain                     202: no more sessions are taken, those that are there finish
//	POST /reload                    200, or 409 and the reason: nothing was changed
//	POST /certificates/renew?name=  200, or 404 for a name that is not ours, 502 and what the CA said
//	GET  /debug/pprof/              if it is enabled
//
// One Status value is the truth that the page, /status and /metrics all render,
// so they cannot disagree; where it comes from is the caller's business.
//
// There are no passwords: whoever may reach the listener may ask. What it does
// defend against is a web page in the browser of somebody who may reach it
// (guard.go): such a page can neither change anything (CSRF), nor read anything
// by giving our address a name of its own (DNS rebinding).
package admin

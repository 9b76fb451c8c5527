// Package smtp is the grammar of SMTP as a proxy needs it: octets in, verdict
// out. It follows framing always and meaning almost never: where a command
// ends, how many replies are owed, where a message ends, and which words must
// not pass (RFC 5321, 2920, 3030, 3207, 4954).
//
// Nothing here reads, writes, waits, knows the time or allocates; what is
// pending between two calls is a few octets of state in the caller's hands.
// Every function may be called again with the same octets and more behind
// them, and must then say the same about the octets it has seen: the tests cut
// their input at every place and compare with a slow reference.
package smtp

package faulty

// A Fault is what a server does wrong; "" is nothing.
type Fault string

// What is wrong with the port and the dialogue in clear.
const (
	ClosedPort      Fault = "nobody listens"
	Refusing        Fault = "greets with 554"
	Busy            Fault = "greets with 421"
	NotSMTP         Fault = "greets as another service"
	Mute            Fault = "never greets"
	WrongMode       Fault = "speaks in clear where TLS comes first" // implicit
	NoStartTLS      Fault = "does not offer STARTTLS"
	AuthInClear     Fault = "announces AUTH in clear"
	AuthTakenUnsaid Fault = "takes AUTH in clear without announcing it"
	MailInClear     Fault = "takes MAIL in clear where TLS is required"
	BrokenTLS       Fault = "cannot do what STARTTLS promises"
	ClearBehind     Fault = "says more in clear behind its answer to STARTTLS"
	Injection       Fault = "answers inside TLS what was said in clear"
	HTTP            Fault = "answers HTTP"
)

// What is wrong inside TLS.
const (
	NoEHLOInside     Fault = "does not answer EHLO inside TLS"
	NoAuth           Fault = "offers no AUTH inside TLS"
	StartTLSInside   Fault = "offers STARTTLS inside TLS"
	StartTLSTaken    Fault = "takes STARTTLS inside TLS without offering it"
	XCLIENT          Fault = "announces XCLIENT"
	XANONYMOUSTLS    Fault = "announces X-ANONYMOUSTLS"
	XEXCH50          Fault = "announces XEXCH50 in clear"
	XCLIENTTaken     Fault = "takes XCLIENT without announcing it"
	ChannelBinding   Fault = "announces SCRAM-SHA-256-PLUS and REQUIRETLS"
	OpenRelay        Fault = "relays for strangers"
	SmugglesBareLF   Fault = "takes LF . LF for the end of a message"
	SmugglesHalfCRLF Fault = "takes CRLF . CR CRLF for the end of a message"
)

// What is wrong with the certificate.
const (
	Expired       Fault = "certificate expired"
	NotYet        Fault = "certificate not valid yet"
	FewDays       Fault = "certificate has two days left"
	FewWeeks      Fault = "certificate has ten days left"
	WrongName     Fault = "certificate of another name"
	Incomplete    Fault = "intermediate certificate missing"
	SelfSigned    Fault = "self-signed certificate"
	UnknownIssuer Fault = "certificate by a CA that nobody knows"
	BadStaple     Fault = "OCSP staple by somebody else"
	OldStaple     Fault = "OCSP staple out of date"
	Revoked       Fault = "OCSP staple says revoked"
)

// What is wrong with TLS.
const (
	TLS10          Fault = "accepts TLS 1.0"
	TLS11          Fault = "accepts TLS 1.1"
	NoTLS12        Fault = "refuses TLS 1.2"
	NoTLS13        Fault = "refuses TLS 1.3"
	RSAKeyExchange Fault = "accepts RSA key exchange"
	RC4            Fault = "accepts RC4"
	OddCurves      Fault = "accepts P-521 alone"
	HTTPByALPN     Fault = "agrees to speak HTTP by ALPN"
	IgnoresALPN    Fault = "does not look at ALPN"
)

package visitor

import (
	"slices"
	"strings"

	"github.com/firebuzz/caddy-sessionctx/sessionctx"
)

// defaultIgnoreReferrers are providers that a visitor passes through in the
// middle of a visit: who comes back from one did not come because of it.
var defaultIgnoreReferrers = []string{
	// payment
	"checkout.stripe.com", "hooks.stripe.com", "buy.stripe.com", "pay.stripe.com", "js.stripe.com",
	"paypal.com", "sandbox.paypal.com", "braintreegateway.com", "venmo.com",
	"klarna.com", "adyen.com", "mollie.com", "sofort.com", "giropay.de", "unzer.com", "heidelpay.com",
	"computop-paygate.com", "payone.com", "secupay.com", "datatrans.com", "saferpay.com", "twint.ch",
	"pay.google.com", "payments.google.com", "pay.amazon.com", "payments.amazon.com",
	"squareup.com", "shop.app", "afterpay.com", "clearpay.co.uk", "affirm.com", "sezzle.com",
	"trustly.com", "gocardless.com", "paydirekt.de", "pay.checkout.com", "checkout.shopify.com",
	"worldpay.com", "authorize.net", "cybersource.com", "2checkout.com", "buy.paddle.com", "checkout.paddle.com",
	"razorpay.com", "payu.com", "payu.in", "przelewy24.pl", "tpay.com", "ideal.nl", "bancontact.com", "multisafepay.com",
	"skrill.com", "neteller.com", "paysafecard.com", "mercadopago.com", "pagseguro.uol.com.br", "yookassa.ru",
	// card holders' authentication
	"arcot.com", "cardinalcommerce.com", "rsa3dsauth.com", "securesuite.co.uk", "3dsecure.io", "wlp-acs.com", "modirum.com",
	"touchtechpayments.com", "netcetera-payment.ch", "pluscard.de",
	// sign-in (not facebook.com and the like: their links are referrers, and
	// browsers send no path by which to tell them from a sign-in)
	"accounts.google.com", "accounts.youtube.com", "appleid.apple.com", "login.microsoftonline.com", "login.live.com",
	"login.microsoft.com", "b2clogin.com", "ciamlogin.com", "api.twitter.com", "api.x.com",
	"login.yahoo.com", "auth0.com", "okta.com", "onelogin.com", "amazoncognito.com", "signin.aws.amazon.com",
}

// DefaultIgnoreReferrers returns the domains that are no referrers where a
// Reader names none.
func DefaultIgnoreReferrers() []string { return slices.Clone(defaultIgnoreReferrers) }

func domainSet(domains []string) map[string]struct{} {
	set := make(map[string]struct{}, len(domains))
	for _, d := range domains {
		set[strings.ToLower(strings.Trim(d, ". "))] = struct{}{}
	}
	delete(set, "")
	return set
}

// referrer is the origin and path of a Referer header, or nothing if it names
// this host, another of the operator's or a provider passed through: within
// says that then. own may be nil.
func (rd *Reader) referrer(header, ownHost string, own func(host string) bool) (referrer string, within bool) {
	if header == "" {
		return "", false
	}
	p := splitURL(header)
	if p.opaque || p.authority == "" {
		return "", false
	}
	switch {
	case strings.EqualFold(p.scheme, "http://"), strings.EqualFold(p.scheme, "https://"):
	case strings.EqualFold(p.scheme, "android-app://"), strings.EqualFold(p.scheme, "ios-app://"):
		// An app's package is no host name of ours or of a provider.
		return joinReferrer(header, p), false
	default:
		return "", false
	}
	authority, ok := cleanHost(p.authority, strings.TrimSuffix(p.scheme, "://"))
	if !ok {
		return "", false
	}
	host := strings.TrimSuffix(hostname(authority), ".")
	if host == strings.TrimSuffix(ownHost, ".") || own != nil && own(host) || under(rd.state().ignored, host) {
		return "", true
	}
	return joinReferrer(header, p), false
}

func joinReferrer(header string, p urlParts) string {
	if p.contiguous {
		return cutURL(header[p.start:p.start+len(p.scheme)+len(p.authority)+len(p.path)], sessionctx.MaxURL)
	}
	return cutURL(p.scheme+p.authority+p.path, sessionctx.MaxURL)
}

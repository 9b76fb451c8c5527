package dns

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	awsretry "github.com/aws/aws-sdk-go-v2/aws/retry"
	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/route53"
	"github.com/aws/aws-sdk-go-v2/service/route53/types"
	"github.com/aws/smithy-go"
	"github.com/aws/smithy-go/logging"
	smithyhttp "github.com/aws/smithy-go/transport/http"
	"go.uber.org/zap"
)

// amazon changes RRsets, which Route 53 only knows as a whole. One batch takes
// the set as it was read away and puts the new one there; if it was changed in
// between, Route 53 refuses the batch whole (InvalidChangeBatch) and we read
// again. An UPSERT would overwrite what another replica has just added.
type amazon struct {
	client      *route53.Client
	credentials aws.CredentialsProvider
	zone        string        // hosted_zone_id, or empty: found by name
	poll        time.Duration // between two looks at a change; the limit is five calls a second for an account
}

// amazonAgain are codes of what goes well when done again, beside throttling.
var amazonAgain = []string{"InvalidChangeBatch", "ConcurrentModification", "ServiceUnavailable", "InternalError"}

// amazonDenied are codes that ask for other credentials or for more rights.
var amazonDenied = []string{"AccessDenied", "AccessDeniedException", "InvalidClientTokenId", "SignatureDoesNotMatch",
	"MissingAuthenticationToken", "ExpiredToken", "ExpiredTokenException", "OptInRequired", "UnrecognizedClientException"}

func openRoute53(settings Settings, log *zap.Logger) (Provider, error) {
	return newRoute53(settings, log, newClient(), "")
}

// newRoute53 asks the environment for nothing if there are keys in the
// settings. If there are none, Amazon's own chain is asked: AWS_* variables,
// shared files, the role of a pod, a task or a machine.
func newRoute53(settings Settings, log *zap.Logger, client *http.Client, base string) (*vendor, error) {
	ours := func(o *route53.Options) {
		o.HTTPClient, o.Retryer, o.RetryMaxAttempts = client, aws.NopRetryer{}, 0
		o.Logger, o.ClientLogMode = logging.Nop{}, 0
		if base != "" {
			o.BaseEndpoint = &base
		}
	}
	a := &amazon{zone: strings.TrimPrefix(settings["hosted_zone_id"], "/hostedzone/"), poll: 2 * time.Second}
	region := settings["region"]
	id, secret, session := settings["access_key_id"], settings["secret_access_key"], settings["session_token"]
	switch {
	case id != "" && secret != "":
		if region == "" {
			region = "us-east-1" // Route 53 is one for all regions of a partition
		}
		a.credentials = aws.NewCredentialsCache(credentials.NewStaticCredentialsProvider(id, secret, session))
		a.client = route53.New(route53.Options{Region: region, Credentials: a.credentials}, ours)
	case id != "" || secret != "" || session != "":
		return nil, errors.New("access_key_id and secret_access_key go together: give both, or none for the credentials of this machine")
	default:
		chain, err := config.LoadDefaultConfig(context.Background(), // reads files and speaks to nobody
			config.WithRegion(region), config.WithDefaultRegion("us-east-1"), config.WithLogger(logging.Nop{}))
		if err != nil {
			return nil, fmt.Errorf("credentials of this machine: %w", err)
		}
		a.credentials = chain.Credentials
		a.client = route53.NewFromConfig(chain, ours)
	}
	return &vendor{
		name:    "route53",
		service: a,
		lowest:  time.Second,
		rights: "the credentials need route53:ListResourceRecordSets and route53:ChangeResourceRecordSets on this zone, " +
			"route53:GetChange, and, without hosted_zone_id, route53:ListHostedZonesByName",
		secrets: []string{secret, session}, pauses: append(pauses(), 5*time.Second), log: log,
	}, nil
}

func (a *amazon) add(ctx context.Context, wanted change) error {
	return a.edit(ctx, wanted, true, func(values []string) []string {
		for _, value := range wanted.values {
			if !slices.ContainsFunc(values, func(v string) bool { return unquote(v) == value }) {
				values = append(values, quote(value))
			}
		}
		return values
	})
}

// remove does not wait: nobody looks for a record that is gone.
func (a *amazon) remove(ctx context.Context, unwanted change) error {
	return a.edit(ctx, unwanted, false, func(values []string) []string {
		return slices.DeleteFunc(values, func(v string) bool { return slices.Contains(unwanted.values, unquote(v)) })
	})
}

// edit makes other values of those of a name.
func (a *amazon) edit(ctx context.Context, at change, wait bool, values func([]string) []string) error {
	if _, err := a.credentials.Retrieve(ctx); err != nil {
		return fmt.Errorf("credentials of this machine: %w: give access_key_id and secret_access_key, or this host a role", err)
	}
	zone, err := a.find(ctx, at.zone)
	if err != nil {
		return fmt.Errorf("find zone %s: %w", at.zone, refusedByAmazon(err))
	}
	old, err := a.read(ctx, zone, at)
	if err != nil {
		return fmt.Errorf("read records of %s in zone %s: %w", at.fqdn, at.zone, refusedByAmazon(err))
	}
	var before []string
	if old != nil {
		for _, record := range old.ResourceRecords {
			before = append(before, aws.ToString(record.Value))
		}
	}
	after := values(slices.Clone(before))
	if slices.Equal(before, after) {
		return nil
	}
	changed, err := a.client.ChangeResourceRecordSets(ctx, &route53.ChangeResourceRecordSetsInput{
		HostedZoneId: &zone, ChangeBatch: &types.ChangeBatch{Changes: batch(at, old, after)},
	})
	if err == nil && (changed.ChangeInfo == nil || changed.ChangeInfo.Id == nil) {
		err = errForeign
	}
	if err == nil && wait {
		err = a.sync(ctx, changed.ChangeInfo)
	}
	if err != nil {
		return fmt.Errorf("change %s: %w", at.fqdn, refusedByAmazon(err))
	}
	return nil
}

// batch replaces a set. The TTL of one that is there stays.
func batch(at change, old *types.ResourceRecordSet, values []string) (changes []types.Change) {
	name, ttl := at.fqdn+".", int64(at.ttl)
	if old != nil {
		changes = append(changes, types.Change{Action: types.ChangeActionDelete, ResourceRecordSet: old})
		ttl = aws.ToInt64(old.TTL)
	}
	if len(values) == 0 {
		return changes
	}
	set := &types.ResourceRecordSet{Name: &name, Type: types.RRTypeTxt, TTL: &ttl}
	for _, value := range values {
		set.ResourceRecords = append(set.ResourceRecords, types.ResourceRecord{Value: &value})
	}
	return append(changes, types.Change{Action: types.ChangeActionCreate, ResourceRecordSet: set})
}

// find is the identifier of the public zone of a name. Names come in order,
// beginning with ours.
func (a *amazon) find(ctx context.Context, name string) (string, error) {
	if a.zone != "" {
		return a.zone, nil
	}
	name += "."
	var found []string
	in := &route53.ListHostedZonesByNameInput{DNSName: &name}
	for range pageLimit {
		page, err := a.client.ListHostedZonesByName(ctx, in)
		if err != nil {
			return "", err
		}
		for _, zone := range page.HostedZones {
			if strings.EqualFold(aws.ToString(zone.Name), name) && (zone.Config == nil || !zone.Config.PrivateZone) {
				found = append(found, strings.TrimPrefix(aws.ToString(zone.Id), "/hostedzone/"))
			}
		}
		if !page.IsTruncated || !strings.EqualFold(aws.ToString(page.NextDNSName), name) {
			break
		}
		in.DNSName, in.HostedZoneId = page.NextDNSName, page.NextHostedZoneId
	}
	switch len(found) {
	case 0:
		return "", errNoZone
	case 1:
		return found[0], nil
	}
	return "", fmt.Errorf("there are several public ones (%s): say which in hosted_zone_id", brief([]byte(strings.Join(found, ", "))))
}

// read is the TXT set of a name, or nil.
func (a *amazon) read(ctx context.Context, zone string, at change) (*types.ResourceRecordSet, error) {
	name := at.fqdn + "."
	page, err := a.client.ListResourceRecordSets(ctx, &route53.ListResourceRecordSetsInput{
		HostedZoneId: &zone, StartRecordName: &name, StartRecordType: types.RRTypeTxt, MaxItems: aws.Int32(1), // ours is the first, if it is there
	})
	if code, ok := errors.AsType[smithy.APIError](err); ok && code.ErrorCode() == "NoSuchHostedZone" {
		return nil, fmt.Errorf("%w: %w", errNoZone, refusedByAmazon(err))
	}
	if err != nil || len(page.ResourceRecordSets) == 0 {
		return nil, err
	}
	set := &page.ResourceRecordSets[0]
	if !strings.EqualFold(aws.ToString(set.Name), name) || set.Type != types.RRTypeTxt {
		return nil, nil
	}
	if set.SetIdentifier != nil || set.AliasTarget != nil {
		return nil, errors.New("it has a routing policy or an alias, which cannot be added to: delegate the challenge to another name by a CNAME")
	}
	return set, nil
}

// sync waits until a change is at all of Amazon's name servers, mostly within a
// minute. The context bounds it.
func (a *amazon) sync(ctx context.Context, change *types.ChangeInfo) error {
	for change.Status != types.ChangeStatusInsync {
		if err := sleep(ctx, a.poll); err != nil {
			return fmt.Errorf("wait for it to be at all name servers: %w", err)
		}
		now, err := a.client.GetChange(ctx, &route53.GetChangeInput{Id: change.Id})
		if err = refusedByAmazon(err); err != nil && !passing(err) {
			return fmt.Errorf("wait for it to be at all name servers: %w", err)
		}
		if err == nil && now.ChangeInfo == nil {
			return errForeign
		}
		if err == nil {
			change = now.ChangeInfo
		}
	}
	return nil
}

func refusedByAmazon(err error) error {
	answer, ok := errors.AsType[*smithyhttp.ResponseError](err)
	if !ok || answer.HTTPStatusCode() < 300 {
		return err
	}
	said, known := errors.AsType[smithy.APIError](err)
	if !known { // an error page of something before the API
		return &refusal{status: answer.HTTPStatusCode()}
	}
	code := said.ErrorCode()
	_, throttled := awsretry.DefaultThrottleErrorCodes[code]
	words := said.ErrorMessage()
	if batch, ok := errors.AsType[*types.InvalidChangeBatch](err); ok && len(batch.Messages) > 0 {
		words = strings.Join(batch.Messages, ", ") // the other is "errors occurred"
	}
	return &refusal{status: answer.HTTPStatusCode(), code: code, said: words,
		denied: slices.Contains(amazonDenied, code), again: throttled || slices.Contains(amazonAgain, code)}
}

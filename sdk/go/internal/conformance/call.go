package main

import (
	"context"
	"encoding/json"
	"errors"
	"reflect"
	"time"

	"google.golang.org/genproto/googleapis/rpc/code"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	phasegate "github.com/phasegate/phasegate/sdk/go"
	v1 "github.com/phasegate/phasegate/sdk/go/phasegatev1"
	"github.com/phasegate/phasegate/sdk/go/rehearsalv1"
)

var background = context.Background()

// Calls of the API that the SDK has under another name, or takes something else for than the request.
var special = map[string]func(*phasegate.Client, json.RawMessage) (any, error){
	"GetFlag": named(func(c *phasegate.Client, request *v1.GetFlagRequest) (any, error) {
		return c.GetFlag(background, request.Name)
	}),
	"GetPipeline": named(func(c *phasegate.Client, request *v1.GetPipelineRequest) (any, error) {
		return c.GetPipeline(background, request.Name)
	}),
	"GetRelease": named(func(c *phasegate.Client, request *v1.GetReleaseRequest) (any, error) {
		return c.GetRelease(background, request.Name)
	}),
	"GetIdentity": named(func(c *phasegate.Client, _ *v1.GetIdentityRequest) (any, error) {
		return c.Identity(background)
	}),
	"GetAuditHead": named(func(c *phasegate.Client, _ *v1.GetAuditHeadRequest) (any, error) {
		return c.GetAuditHead(background)
	}),
	"ListSinks": named(func(c *phasegate.Client, _ *v1.ListSinksRequest) (any, error) {
		return c.ListSinks(background)
	}),
	"SendTestNotification": named(func(c *phasegate.Client, request *v1.SendTestNotificationRequest) (any, error) {
		return c.SendTestNotification(background, request.Sink)
	}),
	"ClockNow": named(func(c *phasegate.Client, _ *rehearsalv1.GetRequest) (any, error) {
		return c.ClockNow(background)
	}),
	"AdvanceClock": named(func(c *phasegate.Client, request *rehearsalv1.AdvanceRequest) (any, error) {
		return c.AdvanceClock(background, request.Duration.AsDuration())
	}),
}

// named reads the request of a call.
func named[Q any, P interface {
	*Q
	proto.Message
}](do func(*phasegate.Client, P) (any, error)) func(*phasegate.Client, json.RawMessage) (any, error) {
	return func(client *phasegate.Client, given json.RawMessage) (any, error) {
		request := P(new(Q))
		if err := readMessage(given, request); err != nil {
			return nil, err
		}
		return do(client, request)
	}
}

// call makes a call. All that are not special are methods of the client that take the request.
func call(client *phasegate.Client, method string, given json.RawMessage) (any, error) {
	if do, known := special[method]; known {
		got, err := do(client, given)
		return answered(got, err)
	}
	function := reflect.ValueOf(client).MethodByName(method)
	if !function.IsValid() || function.Type().NumIn() != 2 {
		return nil, nonsense("there is no method %q", method)
	}
	takes := function.Type().In(1)
	if !takes.Implements(reflect.TypeFor[proto.Message]()) {
		return nil, nonsense("%q is no method that takes a request", method)
	}
	asked := reflect.New(takes.Elem())
	request := asked.Interface().(proto.Message)
	if err := readMessage(given, request); err != nil {
		return nil, err
	}
	results := function.Call([]reflect.Value{reflect.ValueOf(background), asked})
	err, _ := results[len(results)-1].Interface().(error)
	if len(results) == 1 {
		return answered(nil, err)
	}
	return answered(results[0].Interface(), err)
}

func answered(got any, err error) (any, error) {
	if err != nil {
		return nil, err
	}
	switch got := got.(type) {
	case nil:
		return object{}, nil
	case time.Time:
		return message(&rehearsalv1.GetResponse{Now: timestamppb.New(got)}), nil
	case proto.Message:
		return message(got), nil
	default:
		return nil, nonsense("%T is nothing that a call gives", got)
	}
}

// message is a message as canonical proto JSON.
func message(given proto.Message) json.RawMessage {
	text, err := protojson.Marshal(given)
	if err != nil {
		panic(err) // It came off the wire, so it can be said.
	}
	return text
}

func messages[M proto.Message](given []M) []json.RawMessage {
	all := make([]json.RawMessage, 0, len(given))
	for _, one := range given {
		all = append(all, message(one))
	}
	return all
}

func readMessage(given json.RawMessage, into proto.Message) error {
	if len(given) == 0 {
		return nil
	}
	if err := protojson.Unmarshal(given, into); err != nil {
		return nonsense("the request: %v", err)
	}
	return nil
}

func errorObject(err error) object {
	var refused *phasegate.Error
	if !errors.As(err, &refused) {
		return object{"code": "RUNNER", "message": err.Error()}
	}
	metadata, fields := map[string]string{}, []string{}
	for key, value := range refused.Metadata {
		metadata[key] = value
	}
	for _, violation := range refused.Violations {
		fields = append(fields, violation.Field)
	}
	return object{
		"code":     code.Code(refused.Code).String(),
		"reason":   string(refused.Reason),
		"metadata": metadata,
		"fields":   fields,
		"message":  refused.Message,
	}
}

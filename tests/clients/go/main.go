// The life of a workflow through AWS's own SDK for Go: made, run, listed, tagged, shared. Prints what it saw as one line of JSON.
// Endpoint, region and keys come from the environment, as the SDK itself reads them. The host prefix is turned off by middleware.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log"
	"os"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"
	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/omics"
	"github.com/aws/aws-sdk-go-v2/service/omics/document"
	"github.com/aws/aws-sdk-go-v2/service/omics/types"
	"github.com/aws/smithy-go"
	"github.com/aws/smithy-go/middleware"
	smithyhttp "github.com/aws/smithy-go/transport/http"
)

func must[T any](value T, err error) T {
	if err != nil {
		log.Fatal(err)
	}
	return value
}

func given(name string) string {
	value, isSet := os.LookupEnv(name)
	if !isSet {
		log.Fatalf("%s is not set", name)
	}
	return value
}

func withoutHostPrefix(options *omics.Options) {
	options.APIOptions = append(options.APIOptions, func(stack *middleware.Stack) error {
		return stack.Initialize.Add(middleware.InitializeMiddlewareFunc("WithoutHostPrefix",
			func(ctx context.Context, in middleware.InitializeInput, next middleware.InitializeHandler) (
				middleware.InitializeOutput, middleware.Metadata, error,
			) {
				return next.HandleInitialize(smithyhttp.DisableEndpointHostPrefix(ctx, true), in)
			}), middleware.Before)
	})
}

// refusal is the error's name and HTTP status, and the error itself.
func refusal(err error) ([]any, error) {
	var api smithy.APIError
	var response *awshttp.ResponseError
	if !errors.As(err, &api) || !errors.As(err, &response) {
		log.Fatalf("not refused: %v", err)
	}
	return []any{api.ErrorCode(), response.HTTPStatusCode()}, err
}

func comesTo(ctx context.Context, client *omics.Client, shareID *string, status types.ShareStatus) {
	for {
		found := must(client.GetShare(ctx, &omics.GetShareInput{ShareId: shareID}))
		if found.Share.Status == status {
			return
		}
		time.Sleep(50 * time.Millisecond)
	}
}

func main() {
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	settings := must(config.LoadDefaultConfig(ctx))
	owner := omics.NewFromConfig(settings, withoutHostPrefix)
	subscriber := omics.NewFromConfig(settings, withoutHostPrefix, func(options *omics.Options) {
		options.Credentials = credentials.NewStaticCredentialsProvider(given("SUBSCRIBER_KEY_ID"), given("SUBSCRIBER_SECRET"), "")
	})

	// made
	name := "life-go"
	made := must(owner.CreateWorkflow(ctx, &omics.CreateWorkflowInput{
		Name:          &name,
		DefinitionZip: must(os.ReadFile(given("DEFINITION"))),
		Tags:          map[string]string{"from": "go"},
	}))
	active := omics.NewWorkflowActiveWaiter(owner, func(options *omics.WorkflowActiveWaiterOptions) {
		options.MinDelay, options.MaxDelay = time.Second, time.Second
	})
	workflow := must(active.WaitForOutput(ctx, &omics.GetWorkflowInput{Id: made.Id}, time.Minute))

	// run
	completed := omics.NewRunCompletedWaiter(owner, func(options *omics.RunCompletedWaiterOptions) {
		options.MinDelay, options.MaxDelay = time.Second, time.Second
	})
	var ids []*string
	for _, who := range []string{"ana", "bea"} {
		started := must(owner.StartRun(ctx, &omics.StartRunInput{
			WorkflowId:  made.Id,
			RoleArn:     aws.String(given("ROLE_ARN")),
			OutputUri:   aws.String(given("OUTPUT_URI")),
			StorageType: types.StorageTypeDynamic,
			Name:        aws.String(who),
			Parameters:  document.NewLazyDocument(map[string]any{"name": who}),
		}))
		ids = append(ids, started.Id)
	}
	run := must(completed.WaitForOutput(ctx, &omics.GetRunInput{Id: ids[0]}, time.Minute))
	must(completed.WaitForOutput(ctx, &omics.GetRunInput{Id: ids[1]}, time.Minute))
	var parameters map[string]any
	if err := run.Parameters.UnmarshalSmithyDocument(&parameters); err != nil {
		log.Fatal(err)
	}
	tasks := [][]any{}
	for _, task := range must(owner.ListRunTasks(ctx, &omics.ListRunTasksInput{Id: run.Id})).Items {
		tasks = append(tasks, []any{task.Name, task.Status, task.Cpus})
	}

	// listed
	mine, allRuns, runPages := []string{}, 0, 0
	for pages := omics.NewListRunsPaginator(owner, &omics.ListRunsInput{MaxResults: aws.Int32(1)}); pages.HasMorePages(); runPages++ {
		for _, item := range must(pages.NextPage(ctx)).Items {
			allRuns++
			if *item.WorkflowId == *made.Id {
				mine = append(mine, *item.Name)
			}
		}
	}
	workflows := []bool{}
	for pages := omics.NewListWorkflowsPaginator(owner, &omics.ListWorkflowsInput{MaxResults: aws.Int32(1), Name: &name}); pages.HasMorePages(); {
		for _, item := range must(pages.NextPage(ctx)).Items {
			workflows = append(workflows, *item.Id == *made.Id)
		}
	}

	// tagged
	must(owner.TagResource(ctx, &omics.TagResourceInput{
		ResourceArn: run.Arn, Tags: map[string]string{"colour": "blue", "size": "a / b"},
	}))
	tagged := must(owner.ListTagsForResource(ctx, &omics.ListTagsForResourceInput{ResourceArn: run.Arn})).Tags
	must(owner.UntagResource(ctx, &omics.UntagResourceInput{ResourceArn: run.Arn, TagKeys: []string{"colour"}}))
	untagged := must(owner.ListTagsForResource(ctx, &omics.ListTagsForResourceInput{ResourceArn: run.Arn})).Tags

	// shared
	shared := omics.GetWorkflowInput{Id: made.Id, WorkflowOwnerId: aws.String(given("OWNER_ACCOUNT"))}
	_, err := subscriber.GetWorkflow(ctx, &shared)
	hidden, _ := refusal(err)
	offer := must(owner.CreateShare(ctx, &omics.CreateShareInput{
		ResourceArn: workflow.Arn, PrincipalSubscriber: aws.String(given("SUBSCRIBER_ACCOUNT")), ShareName: &name,
	}))
	must(subscriber.AcceptShare(ctx, &omics.AcceptShareInput{ShareId: offer.ShareId}))
	comesTo(ctx, owner, offer.ShareId, types.ShareStatusActive)
	seen := must(subscriber.GetWorkflow(ctx, &shared))
	exporting := shared
	exporting.Export = []types.WorkflowExport{types.WorkflowExportDefinition}
	_, err = subscriber.GetWorkflow(ctx, &exporting)
	exported, _ := refusal(err)
	shares := 0
	for pages := omics.NewListSharesPaginator(subscriber, &omics.ListSharesInput{
		ResourceOwner: types.ResourceOwnerOther, MaxResults: aws.Int32(1), Filter: &types.Filter{Status: []types.ShareStatus{types.ShareStatusActive}},
	}); pages.HasMorePages(); {
		for _, item := range must(pages.NextPage(ctx)).Shares {
			if *item.ShareId == *offer.ShareId {
				shares++
			}
		}
	}
	must(owner.DeleteShare(ctx, &omics.DeleteShareInput{ShareId: offer.ShareId}))
	comesTo(ctx, owner, offer.ShareId, types.ShareStatusDeleted)

	// refused
	_, err = owner.GetRun(ctx, &omics.GetRunInput{Id: aws.String("999999999")})
	missing, notFound := refusal(err)
	_, err = owner.CancelRun(ctx, &omics.CancelRunInput{Id: run.Id})
	late, conflict := refusal(err)
	_, err = owner.GetRun(ctx, &omics.GetRunInput{Id: aws.String("x")})
	wrong, _ := refusal(err)
	var typedNotFound *types.ResourceNotFoundException
	var typedConflict *types.ConflictException
	isTyped := errors.As(notFound, &typedNotFound) && errors.As(conflict, &typedConflict)

	names := []string{}
	for parameter := range workflow.ParameterTemplate {
		names = append(names, parameter)
	}
	fmt.Println(string(must(json.Marshal(map[string]any{
		"workflow":       []any{made.Status, workflow.Status, workflow.Engine, workflow.Tags, names},
		"run":            []any{run.Status, run.Name, parameters, *run.WorkflowId == *made.Id, run.RunOutputUri},
		"times":          !run.StartTime.Before(*run.CreationTime) && !run.StopTime.Before(*run.StartTime),
		"tasks":          tasks,
		"runs":           mine,
		"pages_are_runs": runPages >= allRuns && allRuns >= 2,
		"workflows":      workflows,
		"tagged":         tagged,
		"untagged":       untagged,
		"share":          []any{offer.Status, seen.Status, seen.Name, shares},
		"refused":        []any{hidden, exported, missing, late, wrong},
		"typed":          isTyped,
		"message":        typedNotFound.ErrorMessage(),
	}))))
}

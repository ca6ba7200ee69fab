package phasegate

import (
	"context"

	v1 "github.com/phasegate/phasegate/sdk/go/phasegatev1"
)

// CreatePipeline creates a pipeline.
func (c *Client) CreatePipeline(ctx context.Context, request *v1.CreatePipelineRequest) (*v1.Pipeline, error) {
	answer, err := call(ctx, c, request, c.pipelines.CreatePipeline)
	return present(answer.GetPipeline(), err, "pipeline")
}

// PlanCreatePipeline checks everything that [Client.CreatePipeline] checks, and creates nothing. It sets ValidateOnly.
func (c *Client) PlanCreatePipeline(
	ctx context.Context, request *v1.CreatePipelineRequest,
) (*v1.CreatePipelineResponse, error) {
	request = asked(request)
	request.ValidateOnly = true
	return call(ctx, c, request, c.pipelines.CreatePipeline)
}

// GetPipeline returns one pipeline, by its name pipelines/{pipeline}.
func (c *Client) GetPipeline(ctx context.Context, name string) (*v1.Pipeline, error) {
	answer, err := call(ctx, c, &v1.GetPipelineRequest{Name: name}, c.pipelines.GetPipeline)
	return present(answer.GetPipeline(), err, "pipeline")
}

// ListPipelines returns a page of pipelines, by name.
func (c *Client) ListPipelines(
	ctx context.Context, request *v1.ListPipelinesRequest,
) (*v1.ListPipelinesResponse, error) {
	return call(ctx, c, request, c.pipelines.ListPipelines)
}

// UpdatePipeline changes fields of a pipeline. Releases under way keep their copy.
func (c *Client) UpdatePipeline(ctx context.Context, request *v1.UpdatePipelineRequest) (*v1.Pipeline, error) {
	answer, err := call(ctx, c, request, c.pipelines.UpdatePipeline)
	return present(answer.GetPipeline(), err, "pipeline")
}

// PlanUpdatePipeline checks everything that [Client.UpdatePipeline] checks, and changes nothing. It sets ValidateOnly.
func (c *Client) PlanUpdatePipeline(
	ctx context.Context, request *v1.UpdatePipelineRequest,
) (*v1.UpdatePipelineResponse, error) {
	request = asked(request)
	request.ValidateOnly = true
	return call(ctx, c, request, c.pipelines.UpdatePipeline)
}

// DeletePipeline deletes a pipeline for good.
func (c *Client) DeletePipeline(ctx context.Context, request *v1.DeletePipelineRequest) error {
	_, err := call(ctx, c, request, c.pipelines.DeletePipeline)
	return err
}

// The life of a workflow through AWS's own SDK for JavaScript: made, run, listed, tagged, shared. Prints what it saw as one line of JSON.
// Endpoint, region and keys come from the environment, as the SDK itself reads them. `disableHostPrefix` has no variable.

import { readFileSync } from "node:fs";
import {
  AcceptShareCommand,
  CancelRunCommand,
  ConflictException,
  CreateShareCommand,
  CreateWorkflowCommand,
  DeleteShareCommand,
  GetRunCommand,
  GetShareCommand,
  GetWorkflowCommand,
  ListRunTasksCommand,
  ListTagsForResourceCommand,
  OmicsClient,
  OmicsServiceException,
  ResourceNotFoundException,
  StartRunCommand,
  TagResourceCommand,
  UntagResourceCommand,
  paginateListRuns,
  paginateListShares,
  paginateListWorkflows,
  waitUntilRunCompleted,
  waitUntilWorkflowActive,
} from "@aws-sdk/client-omics";

const given = (name) => {
  const value = process.env[name];
  if (value === undefined) throw new Error(`${name} is not set`);
  return value;
};

const owner = new OmicsClient({ disableHostPrefix: true });
const subscriber = new OmicsClient({
  disableHostPrefix: true,
  credentials: { accessKeyId: given("SUBSCRIBER_KEY_ID"), secretAccessKey: given("SUBSCRIBER_SECRET") },
});
const often = { maxWaitTime: 60, minDelay: 1, maxDelay: 1 };

async function refusal(client, command) {
  try {
    await client.send(command);
  } catch (error) {
    if (!(error instanceof OmicsServiceException)) throw error;
    return error;
  }
  throw new Error(`${command.constructor.name} was not refused`);
}

async function listed(pages, member) {
  const found = [];
  let count = 0;
  for await (const page of pages) {
    count += 1;
    found.push(...page[member]);
  }
  return [found, count];
}

async function comesTo(shareId, status) {
  const { share } = await owner.send(new GetShareCommand({ shareId }));
  if (share.status === status) return;
  await new Promise((resolve) => setTimeout(resolve, 50));
  await comesTo(shareId, status);
}

// made
const name = "life-javascript";
const made = await owner.send(
  new CreateWorkflowCommand({ name, definitionZip: readFileSync(given("DEFINITION")), tags: { from: "javascript" } }),
);
await waitUntilWorkflowActive({ client: owner, ...often }, { id: made.id });
const workflow = await owner.send(new GetWorkflowCommand({ id: made.id }));

// run
const usual = { workflowId: made.id, roleArn: given("ROLE_ARN"), outputUri: given("OUTPUT_URI"), storageType: "DYNAMIC" };
const runs = [];
for (const who of ["ana", "bea"]) {
  runs.push(await owner.send(new StartRunCommand({ ...usual, name: who, parameters: { name: who } })));
}
for (const run of runs) await waitUntilRunCompleted({ client: owner, ...often }, { id: run.id });
const run = await owner.send(new GetRunCommand({ id: runs[0].id }));
const { items: tasks } = await owner.send(new ListRunTasksCommand({ id: run.id }));

// listed
const [allRuns, runPages] = await listed(paginateListRuns({ client: owner, pageSize: 1 }, {}), "items");
const [named] = await listed(paginateListWorkflows({ client: owner, pageSize: 1 }, { name }), "items");

// tagged
await owner.send(new TagResourceCommand({ resourceArn: run.arn, tags: { colour: "blue", size: "a / b" } }));
const { tags: tagged } = await owner.send(new ListTagsForResourceCommand({ resourceArn: run.arn }));
await owner.send(new UntagResourceCommand({ resourceArn: run.arn, tagKeys: ["colour"] }));
const { tags: untagged } = await owner.send(new ListTagsForResourceCommand({ resourceArn: run.arn }));

// shared
const shared = { id: made.id, workflowOwnerId: given("OWNER_ACCOUNT") };
const hidden = await refusal(subscriber, new GetWorkflowCommand(shared));
const { shareId, status: offered } = await owner.send(
  new CreateShareCommand({ resourceArn: workflow.arn, principalSubscriber: given("SUBSCRIBER_ACCOUNT"), shareName: name }),
);
await subscriber.send(new AcceptShareCommand({ shareId }));
await comesTo(shareId, "ACTIVE");
const seen = await subscriber.send(new GetWorkflowCommand(shared));
const exported = await refusal(subscriber, new GetWorkflowCommand({ ...shared, export: ["DEFINITION"] }));
const [shares] = await listed(
  paginateListShares({ client: subscriber, pageSize: 1 }, { resourceOwner: "OTHER", filter: { status: ["ACTIVE"] } }),
  "shares",
);
await owner.send(new DeleteShareCommand({ shareId }));
await comesTo(shareId, "DELETED");

// refused
const missing = await refusal(owner, new GetRunCommand({ id: "999999999" }));
const late = await refusal(owner, new CancelRunCommand({ id: run.id }));
const wrong = await refusal(owner, new GetRunCommand({ id: "x" }));

console.log(
  JSON.stringify({
    workflow: [made.status, workflow.status, workflow.engine, workflow.tags, Object.keys(workflow.parameterTemplate)],
    run: [run.status, run.name, run.parameters, run.workflowId === made.id, run.runOutputUri],
    times: run.creationTime <= run.startTime && run.startTime <= run.stopTime,
    tasks: tasks.map((task) => [task.name, task.status, task.cpus]),
    runs: allRuns.filter((item) => item.workflowId === made.id).map((item) => item.name),
    pages_are_runs: runPages >= allRuns.length && allRuns.length >= 2,
    workflows: named.map((item) => item.id === made.id),
    tagged,
    untagged,
    share: [offered, seen.status, seen.name, shares.filter((item) => item.shareId === shareId).length],
    refused: [hidden, exported, missing, late, wrong].map((error) => [error.name, error.$metadata.httpStatusCode]),
    typed: missing instanceof ResourceNotFoundException && late instanceof ConflictException,
    message: missing.message,
  }),
);

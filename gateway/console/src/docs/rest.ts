// The REST reference: the server's OpenAPI document, tag by tag and route by route.
import { blocksOf, inlineOf } from "./markdown.ts";
import {
  type Answer,
  METHODS,
  type Media,
  type Method,
  type OpenApi,
  type Operation,
  type Parameter,
  type PathItem,
  type Reference,
  type Resolve,
  resolver,
} from "./openapi.ts";
import { Schemas } from "./schema.ts";
import { type Doc, type Link, type Node, anchorOf, idOf } from "./tree.ts";

interface Route {
  method: Method;
  path: string;
  operation: Operation;
  /** Those of the path and its own. */
  parameters: Parameter[];
}

interface Context {
  document: OpenApi;
  resolve: Resolve;
  schemas: Schemas;
  link: Link;
}

export function restOf(document: OpenApi, link: Link): Doc {
  const resolve = resolver(document);
  const context = { document, resolve, schemas: new Schemas(resolve, link), link };
  const routes = Object.entries(document.paths).flatMap(([path, item]) => routesOf(path, item, resolve));
  const tags = [...(document.tags ?? [])];
  for (const name of routes.map(tagOf)) if (!tags.some((tag) => tag.name === name)) tags.push({ name });
  const doc: Doc = { contents: [], body: [["h1", { id: idOf("rest") }, "REST routes"]] };
  doc.body.push(...blocksOf(document.info.description ?? "", link), ...credentials(context, doc));
  for (const { name, description } of tags) {
    doc.contents.push({ anchor: anchorOf(name), text: name, level: 0 });
    doc.body.push(["h2", { id: idOf(anchorOf(name)) }, name], ...blocksOf(description ?? "", link));
    for (const route of routes.filter((route) => tagOf(route) === name)) {
      doc.contents.push({ anchor: route.operation.operationId, text: route.operation.operationId, level: 1 });
      doc.body.push(section(route, context));
    }
  }
  return doc;
}

const tagOf = ({ operation }: Route) => operation.tags?.[0] ?? "Others";

function routesOf(path: string, item: PathItem, resolve: Resolve): Route[] {
  return Object.keys(item).flatMap((key) => {
    const method = METHODS.find((method) => method === key);
    const operation = method && item[method];
    if (!operation) return [];
    const parameters = [...(item.parameters ?? []), ...(operation.parameters ?? [])].map((each) => resolve(each));
    return [{ method, path, operation, parameters }];
  });
}

function credentials({ document, link }: Context, doc: Doc): Node[] {
  const anchor = "credentials";
  doc.contents.push({ anchor, text: "Credentials", level: 0 });
  const schemes = Object.entries(document.components?.securitySchemes ?? {});
  const rows = schemes.map(([name, { description = "", bearerFormat }]): Node => {
    const format: Node[] = bearerFormat ? [" ", ["span", { class: "type" }, bearerFormat]] : [];
    return ["li", null, ["strong", null, words(name)], ...format, ["div", null, ...inlineOf(description, link)]];
  });
  const lead: Node = ["p", null, "Each goes into the header ", ["code", null, "Authorization: Bearer …"], "."];
  return [["h2", { id: idOf(anchor) }, "Credentials"], lead, ["ul", { class: "fields" }, ...rows]];
}

function section({ method, path, operation, parameters }: Route, context: Context): Node {
  const { schemas, resolve, link } = context;
  const fields = parameters.map(({ name, in: where, required, description, schema = {} }) => {
    return { name, schema, isRequired: required === true, description, where };
  });
  const body = operation.requestBody && resolve(operation.requestBody);
  const answers = Object.entries(operation.responses ?? {});
  return [
    "section",
    { class: "operation" },
    ["h3", { id: idOf(operation.operationId) }, ["span", { class: "method" }, method.toUpperCase()], " ", ["code", null, path]],
    ["p", { class: "summary" }, ...inlineOf(operation.summary ?? "", link)],
    ...blocksOf(operation.description ?? "", link),
    who(operation),
    ...part("Parameters", schemas.list(fields)),
    ...part(
      body?.required ? "Body" : "Body, which may be left out",
      body ? [...blocksOf(body.description ?? "", link), ...media(body.content, context)] : [],
    ),
    ...part(
      "Answers",
      answers.map(([status, answer]) => answered(status, answer, context)),
    ),
  ];
}

const part = (title: string, content: Node[]): Node[] =>
  content.length > 0 ? [["h4", null, title], ...content] : [];

/** Who may call it: one of these, and of a token's scopes all that are named. */
function who({ security = [] }: Operation): Node {
  const ways = security.flatMap((way) => Object.entries(way));
  if (ways.length === 0) return ["p", { class: "callers" }, "No credential."];
  const named = ways.map(([name, scopes]): Node[] => [
    words(name),
    ...scopes.flatMap((scope, i): Node[] => [i === 0 ? " with " : " and ", ["code", null, scope]]),
  ]);
  return ["p", { class: "callers" }, "With: ", ...named.flatMap((way, i): Node[] => (i === 0 ? way : ["; ", ...way])), "."];
}

/** What went well is open; a click shows what else may come. */
function answered(status: string, given: Answer & Reference, context: Context): Node {
  const { description = "", headers = {}, content } = context.resolve(given);
  const heads = Object.entries(headers).map(([name, header]) => {
    const { required, schema = {}, description } = context.resolve(header);
    return { name, schema, isRequired: required === true, description };
  });
  const inside = [
    ...(heads.length > 0 ? [["p", { class: "limits" }, "Headers"] satisfies Node, ...context.schemas.list(heads)] : []),
    ...media(content, context),
  ];
  const line: Node[] = [["code", null, status], " ", ...inlineOf(description, context.link)];
  if (inside.length === 0) return ["p", { class: "answer" }, ...line];
  return ["details", { class: "answer", open: status < "300" }, ["summary", null, ...line], ...inside];
}

/** Each form that a body comes in. */
function media(content: Record<string, Media> | undefined, { schemas, resolve, link }: Context): Node[] {
  return Object.entries(content ?? {}).flatMap(([type, { schema = {}, example, examples = {} }]): Node[] => {
    const { description } = resolve(schema);
    const given = [example, ...Object.values(examples).map((each) => resolve(each).value)].filter((e) => e !== undefined);
    return [
      ["p", { class: "limits" }, ["code", null, type], " ", ...schemas.line(schema)],
      ...(description ? [["p", null, ...inlineOf(description, link)] satisfies Node] : []),
      ...schemas.fields(schema),
      ...given.slice(0, 1).map((value): Node => {
        const text = typeof value === "string" ? value : JSON.stringify(value, null, 2);
        return ["pre", { tabIndex: 0 }, ["code", null, text]];
      }),
    ];
  });
}

/** secretKey → secret key */
const words = (name: string) => name.replace(/[A-Z]/g, (letter) => ` ${letter.toLowerCase()}`);

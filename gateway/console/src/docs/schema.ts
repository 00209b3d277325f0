// What a JSON schema says, in words: the type and limits of a value on one line, its fields as a list below.
import { inlineOf } from "./markdown.ts";
import type { Resolve, Schema } from "./openapi.ts";
import type { Link, Node } from "./tree.ts";

/** Fields in fields, down to here; what lies deeper is left to the document. */
const DEPTH_MAX = 6;
/** What names and keys may hold, said in words. */
const NO_CONTROLS = "^[^\\u0000-\\u001f\\u007f-\\u009f]*$";

export interface Field {
  name: string;
  schema: Schema;
  isRequired: boolean;
  description?: string;
  /** Where in a request a parameter stands. */
  where?: string;
}

export class Schemas {
  constructor(
    private readonly resolve: Resolve,
    private readonly link: Link,
  ) {}

  /** Names with what stands there, and their own fields inside. */
  list(fields: Field[], depth = 0): Node[] {
    if (fields.length === 0) return [];
    return [["ul", { class: "fields" }, ...fields.map((field) => this.#field(field, depth))]];
  }

  /** The fields of a value of this schema, of its items or alternatives. */
  fields(given: Schema, depth = 0): Node[] {
    const schema = this.resolve(given);
    if (depth > DEPTH_MAX) return [];
    if (schema.items) return this.fields(schema.items, depth);
    const own = this.list(this.#properties(schema), depth);
    const rules = this.#rules(schema).map((rule): Node => ["p", { class: "limits" }, rule]);
    return [...own, ...rules, ...this.#alternatives(schema, depth)];
  }

  /** The type of a value and what bounds it. */
  line(given: Schema, where?: string): Node[] {
    const schema = this.resolve(given);
    const limits = [...this.#limits(schema), ...(schema.items ? this.#limits(this.resolve(schema.items)) : [])];
    const type = where ? `${where}, ${this.type(schema)}` : this.type(schema);
    return [["span", { class: "type" }, [type, ...limits].join(", ")]];
  }

  type(given: Schema): string {
    const schema = this.resolve(given);
    if ("const" in schema) return String(schema.const);
    if (schema.enum) return schema.enum.join(" | ");
    if (schema.items) return `array of ${this.type(schema.items)}`;
    const several = schema.anyOf ?? schema.oneOf;
    if (several) return [...new Set(several.map((each) => this.type(each)))].join(" or ");
    if (schema.allOf || (schema.properties && !schema.type)) return "object";
    const types = [schema.type ?? "any JSON value"].flat().join(" or ");
    return schema.format ? `${types} (${schema.format})` : types;
  }

  #field({ name, schema, isRequired, description, where }: Field, depth: number): Node {
    const said = description ?? this.resolve(schema).description;
    return [
      "li",
      null,
      ["code", null, name],
      " ",
      ...this.line(schema, where),
      ...(isRequired ? [" ", ["span", { class: "required" }, "required"] satisfies Node] : []),
      ...(said ? [["div", null, ...inlineOf(said, this.link)] satisfies Node] : []),
      ...this.fields(schema, depth + 1),
    ];
  }

  #properties(schema: Schema): Field[] {
    const inherited = (schema.allOf ?? []).flatMap((part) => this.#properties(this.resolve(part)));
    const own = Object.entries(schema.properties ?? {}).map(([name, schema]) => ({ name, schema, isRequired: false }));
    const required = new Set([schema, ...(schema.allOf ?? [])].flatMap((part) => this.resolve(part).required ?? []));
    const all = new Map([...inherited, ...own].map((field) => [field.name, field]));
    return [...all.values()].map((field) => ({ ...field, isRequired: field.isRequired || required.has(field.name) }));
  }

  #alternatives(schema: Schema, depth: number): Node[] {
    const all = (schema.anyOf ?? schema.oneOf ?? []).map((each) => ({ each, inside: this.fields(each, depth + 1) }));
    if (!all.some(({ inside }) => inside.length > 0)) return [];
    const rows = all.map(({ each, inside }): Node => ["li", null, ...this.line(each), ...inside]);
    return [["p", { class: "limits" }, "One of:"], ["ul", { class: "fields" }, ...rows]];
  }

  /** What holds between fields. */
  #rules({ not, if: when, then }: Schema): string[] {
    const rules = [];
    if (not?.required) rules.push(`Not together: ${not.required.join(", ")}`);
    if (when?.properties && then?.required) {
      const is = Object.entries(when.properties).map(([name, schema]) => `${name} is ${this.type(schema)}`);
      rules.push(`Where ${is.join(" and ")}, required: ${then.required.join(", ")}`);
    }
    return rules;
  }

  #limits(schema: Schema): string[] {
    const { minimum, maximum, minLength, maxLength, minItems, maxItems, pattern, not, contentMediaType } = schema;
    return [
      between(minimum, maximum, ""),
      between(minLength, maxLength, " characters"),
      between(minItems, maxItems, " items"),
      pattern && (pattern === NO_CONTROLS ? "no control characters" : `matching ${pattern}`),
      not?.pattern && `not matching ${not.pattern}`,
      contentMediaType && `holding ${contentMediaType}`,
      "default" in schema && `${JSON.stringify(schema.default)} if not given`,
    ].filter((limit) => typeof limit === "string");
  }
}

function between(least: number | undefined, most: number | undefined, what: string): string | undefined {
  if (least !== undefined && most !== undefined) return `${grouped(least)} to ${grouped(most)}${what}`;
  if (least === 1 && what) return "not empty";
  if (least !== undefined) return `at least ${grouped(least)}${what}`;
  return most === undefined ? undefined : `at most ${grouped(most)}${what}`;
}

/** In groups of three, as everywhere in the docs. */
const grouped = (n: number) => n.toLocaleString("en").replaceAll(",", " ");

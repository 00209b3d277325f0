// As much of OpenAPI 3.1 as the server's own document uses.
export interface OpenApi {
  info: { title: string; version: string; description?: string };
  tags?: { name: string; description?: string }[];
  paths: Record<string, PathItem>;
  components?: { securitySchemes?: Record<string, SecurityScheme> };
}

export interface Reference {
  $ref?: string;
}

/** The keys of methods hold operations. */
export type PathItem = { parameters?: (Parameter & Reference)[] } & { [method in Method]?: Operation };

export const METHODS = ["get", "head", "put", "post", "patch", "delete"] as const;
export type Method = (typeof METHODS)[number];

export interface Operation {
  operationId: string;
  tags?: string[];
  summary?: string;
  description?: string;
  parameters?: (Parameter & Reference)[];
  requestBody?: Body & Reference;
  responses?: Record<string, Answer & Reference>;
  security?: Record<string, string[]>[];
}

export interface Parameter {
  name: string;
  in: string;
  required?: boolean;
  description?: string;
  schema?: Schema;
}

export interface Body {
  description?: string;
  required?: boolean;
  content?: Record<string, Media>;
}

export interface Answer {
  description?: string;
  headers?: Record<string, Omit<Parameter, "name" | "in"> & Reference>;
  content?: Record<string, Media>;
}

export interface Media {
  schema?: Schema;
  example?: unknown;
  examples?: Record<string, { value?: unknown } & Reference>;
}

export interface SecurityScheme {
  bearerFormat?: string;
  description?: string;
}

export interface Schema extends Reference {
  type?: string | string[];
  description?: string;
  format?: string;
  contentMediaType?: string;
  const?: unknown;
  enum?: unknown[];
  default?: unknown;
  pattern?: string;
  minimum?: number;
  maximum?: number;
  minLength?: number;
  maxLength?: number;
  minItems?: number;
  maxItems?: number;
  required?: string[];
  properties?: Record<string, Schema>;
  items?: Schema;
  allOf?: Schema[];
  anyOf?: Schema[];
  oneOf?: Schema[];
  not?: Schema;
  if?: Schema;
  then?: Schema;
}

/** What a reference names, with what stands beside the reference on top; a thing itself otherwise. */
export type Resolve = <T extends object>(thing: T & Reference) => T;

export function resolver(document: OpenApi): Resolve {
  const resolve = <T extends object>(thing: T & Reference): T => {
    if (!thing.$ref) return thing;
    const { $ref, ...beside } = thing;
    const steps = $ref.replace(/^#\//, "").split("/");
    const found = steps.reduce<unknown>((at, step) => (at as Record<string, unknown> | undefined)?.[step], document);
    return { ...resolve((found ?? {}) as T & Reference), ...beside } as T;
  };
  return resolve;
}

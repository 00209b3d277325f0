"""The document by itself: is it one, and are its examples what it says?"""

import copy
import re

from jsonschema import Draft202012Validator, FormatChecker
from openapi_spec_validator import OpenAPIV31SpecValidator

DIALECT = "https://json-schema.org/draft/2020-12/schema"


def problems_of_form(document: dict) -> list[str]:
    """Where it breaks the rules of OpenAPI 3.1."""
    return [f"{'/'.join(map(str, error.path))}: {error.message}" for error in OpenAPIV31SpecValidator(document).iter_errors()]


def problems_of_paths(document: dict) -> list[str]:
    """Parameters of a path that are not declared, and declared ones that are not in it."""
    found = []
    for path, item in document["paths"].items():
        for method, operation in operations(item):
            given = [resolved(document, p) for p in [*item.get("parameters", []), *operation.get("parameters", [])]]
            declared = {p["name"] for p in given if p["in"] == "path"}
            if declared != (named := set(re.findall(r"{(\w+)}", path))):
                found.append(f"{method} {path}: declares {sorted(declared)} and names {sorted(named)}")
    return found


def problems_of_examples(document: dict) -> tuple[int, list[str]]:
    """How many examples there are, and which ones are not valid."""
    count, found = 0, []
    for where, schema, example in examples(document, document, "#"):
        count += 1
        whole = {"$schema": DIALECT, "components": document["components"], **schema}
        errors = Draft202012Validator(whole, format_checker=FormatChecker()).iter_errors(example)
        found += [f"{where}: {error.json_path}: {error.message}" for error in errors]
    return count, found


def examples(document: dict, thing, where: str):
    """Every example with the schema it stands beside."""
    if isinstance(thing, list):
        for n, one in enumerate(thing):
            yield from examples(document, one, f"{where}/{n}")
    if not isinstance(thing, dict):
        return
    if "schema" in thing:
        if "example" in thing:
            yield where, thing["schema"], thing["example"]
        for name, one in thing.get("examples", {}).items():
            yield f"{where}/{name}", thing["schema"], resolved(document, one)["value"]
    for name, one in thing.items():
        if name not in ("example", "examples"):
            yield from examples(document, one, f"{where}/{name}")


def operations(item: dict):
    return [(method, operation) for method, operation in item.items() if method != "parameters"]


def resolved(document: dict, thing: dict) -> dict:
    while "$ref" in thing:
        found = document
        for name in thing["$ref"].removeprefix("#/").split("/"):
            found = found[name]
        thing = found
    return thing


def tightened(document: dict) -> dict:
    """Clients are to bear new fields in answers. The tests are not: what is answered has to be described."""
    document = copy.deepcopy(document)
    for item in document["paths"].values():
        for _, operation in operations(item):
            for status, response in operation["responses"].items():
                response = copy.deepcopy(resolved(document, response))
                for kind, media in response.get("content", {}).items():
                    # Of a stream of events the tool looks at each one.
                    one = {"$ref": "#/components/schemas/Event"} if kind == "text/event-stream" else media.get("schema")
                    if one is not None:
                        media["schema"] = closed(document, one)
                operation["responses"][status] = response
    return document


def closed(document: dict, schema, is_part: bool = False):
    """The schema, written out, with no field beside those that it names. Parts of an `allOf` are closed as a whole."""
    if isinstance(schema, list):
        return [closed(document, one, is_part) for one in schema]
    if not isinstance(schema, dict):
        return schema
    if "$ref" in schema:
        beside = {key: value for key, value in schema.items() if key != "$ref"}
        return closed(document, {**resolved(document, schema), **beside}, is_part)
    out = {}
    for key, value in schema.items():
        if key == "properties":
            out[key] = {name: closed(document, one) for name, one in value.items()}
        elif key in ("items", "anyOf", "oneOf", "allOf", "prefixItems"):
            out[key] = closed(document, value, key == "allOf")
        else:
            out[key] = value
    if not is_part and ("properties" in out or "allOf" in out):
        out["unevaluatedProperties"] = False
    return out

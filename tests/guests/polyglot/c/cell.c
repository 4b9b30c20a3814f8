// A plain cell of the standard HTTP world: it knows nothing of this host. Built by ../build, which also generates
// standard.h.

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "standard.h"

static const char *const METHODS[] = { "GET", "HEAD", "POST", "PUT", "DELETE", "CONNECT", "OPTIONS", "TRACE", "PATCH" };

static bool ends_with(standard_string_t text, const char *end);
static void quote_header(FILE *out, wasi_http_types_borrow_incoming_request_t request, const char *name);
static void quote_body(FILE *out, wasi_http_types_borrow_incoming_request_t request);
static void quote(FILE *out, const uint8_t *text, size_t len);
static void respond(wasi_http_types_own_response_outparam_t out, uint8_t *content, size_t len);

void exports_wasi_http_incoming_handler_handle(exports_wasi_http_incoming_handler_own_incoming_request_t owned,
                                               exports_wasi_http_incoming_handler_own_response_outparam_t out)
{
    wasi_http_types_borrow_incoming_request_t request = wasi_http_types_borrow_incoming_request(owned);
    standard_string_t path = { NULL, 0 };
    wasi_http_types_method_t method;
    wasi_http_types_method_incoming_request_path_with_query(request, &path);
    wasi_http_types_method_incoming_request_method(request, &method);
    if (ends_with(path, "/trap"))
        abort();
    if (ends_with(path, "/loop"))
        for (;;)
            ;

    char *content;
    size_t len;
    FILE *answer = open_memstream(&content, &len);
    fprintf(answer, "{\"language\":\"C\",\"method\":\"%s\",\"path\":",
            method.tag == WASI_HTTP_TYPES_METHOD_OTHER ? "OTHER" : METHODS[method.tag]);
    quote(answer, path.ptr, path.len);
    fprintf(answer, ",\"tenant\":");
    quote_header(answer, request, "x-tenant-id");
    fprintf(answer, ",\"body\":");
    quote_body(answer, request);
    fprintf(answer, "}");
    fclose(answer);
    wasi_http_types_incoming_request_drop_own(owned);
    respond(out, (uint8_t *)content, len);
}

static bool ends_with(standard_string_t text, const char *end)
{
    size_t len = strlen(end);
    return text.len >= len && memcmp(text.ptr + text.len - len, end, len) == 0;
}

static void quote_header(FILE *out, wasi_http_types_borrow_incoming_request_t request, const char *name)
{
    standard_string_t key;
    wasi_http_types_list_field_value_t values;
    wasi_http_types_own_headers_t headers = wasi_http_types_method_incoming_request_headers(request);
    standard_string_set(&key, name);
    wasi_http_types_method_fields_get(wasi_http_types_borrow_fields(headers), &key, &values);
    quote(out, values.len ? values.ptr[0].ptr : NULL, values.len ? values.ptr[0].len : 0);
    wasi_http_types_fields_drop_own(headers);
}

static void quote_body(FILE *out, wasi_http_types_borrow_incoming_request_t request)
{
    char *text;
    size_t len;
    FILE *read = open_memstream(&text, &len);
    standard_list_u8_t chunk;
    wasi_io_streams_stream_error_t end;
    wasi_http_types_own_incoming_body_t body;
    wasi_http_types_own_input_stream_t stream;
    if (!wasi_http_types_method_incoming_request_consume(request, &body) ||
        !wasi_http_types_method_incoming_body_stream(wasi_http_types_borrow_incoming_body(body), &stream))
        abort();
    while (wasi_io_streams_method_input_stream_blocking_read(wasi_io_streams_borrow_input_stream(stream), 64 * 1024,
                                                             &chunk, &end)) {
        fwrite(chunk.ptr, 1, chunk.len, read);
        standard_list_u8_free(&chunk);
    }
    wasi_io_streams_input_stream_drop_own(stream);
    wasi_http_types_incoming_body_drop_own(body);
    fclose(read);
    quote(out, (uint8_t *)text, len);
    free(text);
}

// Writes UTF-8 as a string of JSON.
static void quote(FILE *out, const uint8_t *text, size_t len)
{
    fputc('"', out);
    for (size_t i = 0; i < len; i++) {
        if (text[i] < ' ')
            fprintf(out, "\\u%04x", text[i]);
        else
            fprintf(out, text[i] == '"' || text[i] == '\\' ? "\\%c" : "%c", text[i]);
    }
    fputc('"', out);
}

static void respond(wasi_http_types_own_response_outparam_t out, uint8_t *content, size_t len)
{
    wasi_http_types_tuple2_field_name_field_value_t type = { .f1 = { (uint8_t *)"application/json", 16 } };
    standard_string_set(&type.f0, "content-type");
    wasi_http_types_list_tuple2_field_name_field_value_t entries = { &type, 1 };
    wasi_http_types_own_fields_t headers;
    wasi_http_types_header_error_t refused;
    if (!wasi_http_types_static_fields_from_list(&entries, &headers, &refused))
        abort();
    wasi_http_types_result_own_outgoing_response_error_code_t response = { .is_err = false };
    wasi_http_types_own_outgoing_body_t body;
    wasi_http_types_own_output_stream_t stream;
    response.val.ok = wasi_http_types_constructor_outgoing_response(headers);
    wasi_http_types_method_outgoing_response_body(wasi_http_types_borrow_outgoing_response(response.val.ok), &body);
    wasi_http_types_static_response_outparam_set(out, &response);
    wasi_http_types_method_outgoing_body_write(wasi_http_types_borrow_outgoing_body(body), &stream);
    for (size_t from = 0; from < len; from += 4096) {
        standard_list_u8_t chunk = { content + from, len - from < 4096 ? len - from : 4096 };
        wasi_io_streams_stream_error_t end;
        if (!wasi_io_streams_method_output_stream_blocking_write_and_flush(
                wasi_io_streams_borrow_output_stream(stream), &chunk, &end))
            abort();
    }
    wasi_io_streams_output_stream_drop_own(stream);
    wasi_http_types_error_code_t error;
    if (!wasi_http_types_static_outgoing_body_finish(body, NULL, &error))
        abort();
}

// A counter in the typed world, from 0 to 1000. Built by ../build, which also generates counter.h.

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "counter.h"

#define COUNT_MAX 1000

static int read_count(void);
static void write_count(int count);
static int asked(counter_list_u8_t body);
static bool is(counter_string_t text, const char *expected);
static void answer(exports_aibos_cell_handler_response_t *response, uint16_t status, const char *body);

void exports_aibos_cell_handler_handle(exports_aibos_cell_handler_request_t *request,
                                       exports_aibos_cell_handler_response_t *response)
{
    char body[128];
    int count = read_count();
    if (!is(request->method, "GET")) {
        int by = asked(request->body);
        if (by < 1)
            return answer(response, 400, "{\"error\":\"send {\\\"by\\\": N}, N an integer from 1\"}");
        count += by;
        write_count(count);
        if (is(request->path, "/counter-c/fail"))
            abort();
        if (count > COUNT_MAX) {
            // A status of 400 or above drops what was staged.
            snprintf(body, sizeof body, "{\"error\":\"the counter ends at %d\"}", COUNT_MAX);
            return answer(response, 409, body);
        }
        printf("counted to %d\n", count);
        fflush(stdout);
    }
    snprintf(body, sizeof body, "{\"language\":\"C\",\"count\":%d}", count);
    answer(response, 200, body);
}

static int read_count(void)
{
    counter_string_t key;
    counter_option_list_u8_t stored;
    aibos_cell_state_error_t error;
    counter_string_set(&key, "count");
    if (!aibos_cell_state_get(&key, &stored, &error))
        abort();
    int count = 0;
    for (size_t i = 0; stored.is_some && i < stored.val.len; i++)
        count = count * 10 + (stored.val.ptr[i] - '0');
    return count;
}

static void write_count(int count)
{
    char text[16];
    counter_string_t key;
    aibos_cell_state_error_t error;
    counter_string_set(&key, "count");
    counter_list_u8_t value = { (uint8_t *)text, (size_t)snprintf(text, sizeof text, "%d", count) };
    if (!aibos_cell_state_put(&key, &value, &error))
        abort();
}

// The number of a body {"by": N}; 0 when it is another body.
static int asked(counter_list_u8_t body)
{
    char text[64];
    int by, end = 0;
    if (body.len >= sizeof text)
        return 0;
    memcpy(text, body.ptr, body.len);
    text[body.len] = '\0';
    if (sscanf(text, " { \"by\" : %8d } %n", &by, &end) != 1 || end == 0 || text[end] != '\0')
        return 0;
    return by;
}

static bool is(counter_string_t text, const char *expected)
{
    return text.len == strlen(expected) && memcmp(text.ptr, expected, text.len) == 0;
}

// The generated code frees the reply, so everything in it is allocated.
static void answer(exports_aibos_cell_handler_response_t *response, uint16_t status, const char *body)
{
    counter_string_t text;
    aibos_cell_types_header_t *header = malloc(sizeof *header);
    counter_string_dup(&header->f0, "content-type");
    counter_string_dup(&header->f1, "application/json");
    counter_string_dup(&text, body);
    response->status = status;
    response->headers = (aibos_cell_types_list_header_t){ header, 1 };
    response->body = (counter_list_u8_t){ text.ptr, text.len };
    response->effect = AIBOS_CELL_TYPES_EFFECT_BY_STATUS;
}

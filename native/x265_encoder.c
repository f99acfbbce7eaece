#include "x265_encoder.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include <x265.h>

enum { BLOCK = 16 };

struct ssimrdo_x265 {
    const x265_api *api;
    x265_encoder *x265;
    x265_param *param;
    x265_picture *in;
    x265_picture *out;
    int width;
    int height;
    int bytes_per_sample;
    size_t n_blocks;
    void *chroma;
    float *offsets;
};

/* x265 fills tables that all encoders share when the first one opens. */
static pthread_mutex_t open_lock = PTHREAD_MUTEX_INITIALIZER;

static int look(int bit_depth, const x265_api **api)
{
    *api = x265_api_get(bit_depth);
    if (!*api || (*api)->bit_depth != bit_depth)
        return SSIMRDO_X265_NO_DEPTH;
    if ((*api)->api_major_version != X265_MAJOR_VERSION ||
        (*api)->api_build_number != X265_BUILD ||
        (*api)->sizeof_picture != (int)sizeof(x265_picture) ||
        (*api)->sizeof_param != (int)sizeof(x265_param))
        return SSIMRDO_X265_OTHER_BUILD;
    return SSIMRDO_X265_OK;
}

int ssimrdo_x265_look(int bit_depth, ssimrdo_x265_library *library)
{
    const x265_api *api;
    int status = look(bit_depth, &api);
    memset(library, 0, sizeof *library);
    library->compiled_build = X265_BUILD;
    library->compiled_picture_bytes = (int)sizeof(x265_picture);
    library->compiled_param_bytes = (int)sizeof(x265_param);
    if (api) {
        library->build = api->api_build_number;
        library->picture_bytes = api->sizeof_picture;
        library->param_bytes = api->sizeof_param;
        library->version = api->version_str;
    }
    return status;
}

ssimrdo_x265 *ssimrdo_x265_new(void)
{
    return calloc(1, sizeof(ssimrdo_x265));
}

static void fill(ssimrdo_x265 *encoder, size_t samples, int bit_depth)
{
    if (bit_depth == 8) {
        memset(encoder->chroma, 128, samples);
        return;
    }
    uint16_t *chroma = encoder->chroma;
    for (size_t i = 0; i < samples; i++)
        chroma[i] = (uint16_t)(1u << (bit_depth - 1));
}

static int allocate(ssimrdo_x265 *encoder, const ssimrdo_x265_config *config)
{
    encoder->width = config->width;
    encoder->height = config->height;
    encoder->bytes_per_sample = config->bit_depth > 8 ? 2 : 1;
    encoder->n_blocks = (size_t)((config->width + BLOCK - 1) / BLOCK) *
                        (size_t)((config->height + BLOCK - 1) / BLOCK);
    size_t chroma_samples = (size_t)(config->width / 2) * (size_t)(config->height / 2);
    encoder->chroma = malloc(chroma_samples * (size_t)encoder->bytes_per_sample);
    encoder->offsets = malloc(encoder->n_blocks * sizeof *encoder->offsets);
    encoder->param = encoder->api->param_alloc();
    encoder->in = encoder->api->picture_alloc();
    encoder->out = encoder->api->picture_alloc();
    if (!encoder->chroma || !encoder->offsets || !encoder->param || !encoder->in || !encoder->out)
        return SSIMRDO_X265_OUT_OF_MEMORY;
    fill(encoder, chroma_samples, config->bit_depth);
    return SSIMRDO_X265_OK;
}

static int configure(ssimrdo_x265 *encoder, const ssimrdo_x265_config *config, size_t *bad_option)
{
    x265_param *param = encoder->param;
    if (encoder->api->param_default_preset(param, config->preset, config->tune) < 0)
        return SSIMRDO_X265_BAD_PRESET;
    /* It logs to stderr and nowhere else. */
    param->logLevel = X265_LOG_NONE;
    param->sourceWidth = config->width;
    param->sourceHeight = config->height;
    param->internalCsp = X265_CSP_I420;
    param->internalBitDepth = config->bit_depth;
    param->sourceBitDepth = config->bit_depth;
    param->bAnnexB = 1;
    param->bRepeatHeaders = config->repeat_headers;
    /* Names the processor and the pools, so that bytes would depend on the machine. */
    param->bEmitInfoSEI = 0;
    param->rc.bEnableSlowFirstPass = config->slow_first_pass;
    for (size_t i = 0; i < config->n_options; i++) {
        int error = encoder->api->param_parse(param, config->names[i], config->values[i]);
        if (error) {
            *bad_option = i;
            return error == X265_PARAM_BAD_NAME ? SSIMRDO_X265_BAD_OPTION_NAME
                                                : SSIMRDO_X265_BAD_OPTION_VALUE;
        }
    }
    return SSIMRDO_X265_OK;
}

int ssimrdo_x265_open(ssimrdo_x265 *encoder, const ssimrdo_x265_config *config,
                      size_t *bad_option)
{
    *bad_option = 0;
    if (encoder->api)
        return SSIMRDO_X265_OPEN_FAILED;
    if (config->width < SSIMRDO_X265_MIN_SIDE || config->height < SSIMRDO_X265_MIN_SIDE ||
        config->width > SSIMRDO_X265_MAX_SIDE || config->height > SSIMRDO_X265_MAX_SIDE ||
        config->width % 2 || config->height % 2 ||
        (config->bit_depth != 8 && config->bit_depth != 10))
        return SSIMRDO_X265_BAD_SIZE;
    const x265_api *api;
    int status = look(config->bit_depth, &api);
    if (status != SSIMRDO_X265_OK)
        return status;
    encoder->api = api;
    status = allocate(encoder, config);
    if (status == SSIMRDO_X265_OK)
        status = configure(encoder, config, bad_option);
    if (status != SSIMRDO_X265_OK)
        return status;
    pthread_mutex_lock(&open_lock);
    encoder->x265 = api->encoder_open(encoder->param);
    pthread_mutex_unlock(&open_lock);
    return encoder->x265 ? SSIMRDO_X265_OK : SSIMRDO_X265_OPEN_FAILED;
}

static void set_payload(ssimrdo_x265_packet *packet, const x265_nal *nals, uint32_t n_nals)
{
    /* x265 lays the payloads of one call out one after another. */
    for (uint32_t i = 0; i < n_nals; i++)
        packet->size += nals[i].sizeBytes;
    packet->data = packet->size > 0 ? nals[0].payload : NULL;
}

int ssimrdo_x265_headers(ssimrdo_x265 *encoder, ssimrdo_x265_packet *headers)
{
    x265_nal *nals = NULL;
    uint32_t n_nals = 0;
    memset(headers, 0, sizeof *headers);
    if (!encoder->x265)
        return SSIMRDO_X265_NOT_OPEN;
    if (encoder->api->encoder_headers(encoder->x265, &nals, &n_nals) < 0)
        return SSIMRDO_X265_ENCODE_FAILED;
    set_payload(headers, nals, n_nals);
    return SSIMRDO_X265_OK;
}

static void copy_luma(const ssimrdo_x265 *encoder, const x265_picture *picture, void *target)
{
    size_t row_bytes = (size_t)encoder->width * (size_t)encoder->bytes_per_sample;
    for (int y = 0; y < encoder->height; y++)
        memcpy((uint8_t *)target + (size_t)y * row_bytes,
               (const uint8_t *)picture->planes[0] + (ptrdiff_t)y * picture->stride[0], row_bytes);
}

static void set_picture(ssimrdo_x265 *encoder, const void *luma, int64_t pts, int type)
{
    x265_picture *picture = encoder->in;
    int sample = encoder->bytes_per_sample;
    encoder->api->picture_init(encoder->param, picture);
    picture->pts = pts;
    picture->sliceType = type;
    /* x265 only reads input pictures, but its struct has no const. */
    picture->planes[0] = (void *)(uintptr_t)luma;
    picture->stride[0] = encoder->width * sample;
    for (int plane = 1; plane <= 2; plane++) {
        picture->planes[plane] = encoder->chroma;
        picture->stride[plane] = encoder->width / 2 * sample;
    }
}

int ssimrdo_x265_encode(ssimrdo_x265 *encoder, const void *luma, size_t luma_bytes,
                        const float *offsets, size_t n_offsets, int64_t pts, int type,
                        void *reconstruction, size_t reconstruction_bytes,
                        ssimrdo_x265_packet *packet)
{
    memset(packet, 0, sizeof *packet);
    if (!encoder->x265)
        return SSIMRDO_X265_NOT_OPEN;
    size_t frame_bytes = (size_t)encoder->width * (size_t)encoder->height *
                         (size_t)encoder->bytes_per_sample;
    if ((luma && luma_bytes != frame_bytes) || (offsets && n_offsets != encoder->n_blocks) ||
        !reconstruction || reconstruction_bytes != frame_bytes)
        return SSIMRDO_X265_BAD_SIZE;

    x265_nal *nals = NULL;
    uint32_t n_nals = 0;
    if (luma) {
        set_picture(encoder, luma, pts, type);
        if (offsets) {
            memcpy(encoder->offsets, offsets, n_offsets * sizeof *offsets);
            encoder->in->quantOffsets = encoder->offsets;
        }
    }
    int found = encoder->api->encoder_encode(encoder->x265, &nals, &n_nals,
                                             luma ? encoder->in : NULL, encoder->out);
    if (found < 0)
        return SSIMRDO_X265_ENCODE_FAILED;
    if (found == 0)
        return SSIMRDO_X265_OK;
    set_payload(packet, nals, n_nals);
    packet->pts = encoder->out->pts;
    packet->type = encoder->out->sliceType;
    copy_luma(encoder, encoder->out, reconstruction);
    return SSIMRDO_X265_OK;
}

void ssimrdo_x265_free(ssimrdo_x265 *encoder)
{
    if (!encoder)
        return;
    if (encoder->api) {
        if (encoder->x265)
            encoder->api->encoder_close(encoder->x265);
        if (encoder->in)
            encoder->api->picture_free(encoder->in);
        if (encoder->out)
            encoder->api->picture_free(encoder->out);
        if (encoder->param)
            encoder->api->param_free(encoder->param);
    }
    free(encoder->chroma);
    free(encoder->offsets);
    free(encoder);
}

#include "encoder.h"

#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <x264.h>

enum { LOG_LINES = 64, LOG_LENGTH = 1024 };

typedef struct {
    int level;
    char text[LOG_LENGTH];
} log_line;

struct ssimrdo_encoder {
    x264_t *x264;
    int width;
    int height;
    int bytes_per_sample;
    int csp;
    size_t n_macroblocks;
    void *chroma;
    float *offsets;
    size_t n_variants;
    x264_param_t *params; /* by variant, the encoder's own first; NULL without variants */
    pthread_mutex_t log_lock;
    size_t log_first;
    size_t log_count;
    log_line log[LOG_LINES];
};

int ssimrdo_x264_build(void)
{
    return X264_BUILD;
}

/* x264 logs from its own threads as well, so messages queue here until Python collects them:
 * calling into the interpreter from there would need its lock. The oldest message gives way when
 * the queue is full. */
static void log_callback(void *private_data, int level, const char *format, va_list arguments)
{
    ssimrdo_encoder *encoder = private_data;
    pthread_mutex_lock(&encoder->log_lock);
    if (encoder->log_count == LOG_LINES) {
        encoder->log_first = (encoder->log_first + 1) % LOG_LINES;
        encoder->log_count--;
    }
    log_line *line = &encoder->log[(encoder->log_first + encoder->log_count) % LOG_LINES];
    line->level = level;
    if (vsnprintf(line->text, sizeof line->text, format, arguments) < 0)
        line->text[0] = '\0';
    encoder->log_count++;
    pthread_mutex_unlock(&encoder->log_lock);
}

int ssimrdo_encoder_take_log(ssimrdo_encoder *encoder, char *text, size_t size, int *level)
{
    int length = -1;
    pthread_mutex_lock(&encoder->log_lock);
    if (encoder->log_count > 0 && size > 0) {
        const log_line *line = &encoder->log[encoder->log_first];
        size_t n = strlen(line->text);
        if (n > size - 1)
            n = size - 1;
        memcpy(text, line->text, n);
        text[n] = '\0';
        *level = line->level;
        length = (int)n;
        encoder->log_first = (encoder->log_first + 1) % LOG_LINES;
        encoder->log_count--;
    }
    pthread_mutex_unlock(&encoder->log_lock);
    return length;
}

ssimrdo_encoder *ssimrdo_encoder_new(void)
{
    ssimrdo_encoder *encoder = calloc(1, sizeof *encoder);
    if (encoder && pthread_mutex_init(&encoder->log_lock, NULL) != 0) {
        free(encoder);
        return NULL;
    }
    return encoder;
}

static int is_listed(const char *name, const char *const *names)
{
    for (; *names; names++)
        if (strcmp(name, *names) == 0)
            return 1;
    return 0;
}

static void fill(ssimrdo_encoder *encoder, size_t samples, int bit_depth)
{
    if (bit_depth == 8) {
        memset(encoder->chroma, 128, samples);
        return;
    }
    uint16_t *chroma = encoder->chroma;
    for (size_t i = 0; i < samples; i++)
        chroma[i] = (uint16_t)(1u << (bit_depth - 1));
}

static int allocate(ssimrdo_encoder *encoder, const ssimrdo_config *config)
{
    encoder->width = config->width;
    encoder->height = config->height;
    encoder->bytes_per_sample = config->bit_depth > 8 ? 2 : 1;
    encoder->csp = X264_CSP_I420 | (config->bit_depth > 8 ? X264_CSP_HIGH_DEPTH : 0);
    encoder->n_macroblocks =
        (size_t)((config->width + 15) / 16) * (size_t)((config->height + 15) / 16);
    size_t chroma_samples = (size_t)(config->width / 2) * (size_t)(config->height / 2);
    encoder->chroma = malloc(chroma_samples * (size_t)encoder->bytes_per_sample);
    encoder->offsets = malloc(encoder->n_macroblocks * sizeof *encoder->offsets);
    if (!encoder->chroma || !encoder->offsets)
        return SSIMRDO_OUT_OF_MEMORY;
    fill(encoder, chroma_samples, config->bit_depth);
    return SSIMRDO_OK;
}

static int parse(x264_param_t *param, const char **names, const char **values, size_t n_options,
                 size_t *bad_option)
{
    for (size_t i = 0; i < n_options; i++) {
        int error = x264_param_parse(param, names[i], values[i]);
        if (error) {
            *bad_option += i;
            if (error == X264_PARAM_ALLOC_FAILED)
                return SSIMRDO_OUT_OF_MEMORY;
            return error == X264_PARAM_BAD_NAME ? SSIMRDO_BAD_OPTION_NAME
                                                : SSIMRDO_BAD_OPTION_VALUE;
        }
    }
    return SSIMRDO_OK;
}

static int configure(ssimrdo_encoder *encoder, const ssimrdo_config *config, x264_param_t *param,
                     size_t *bad_option)
{
    param->pf_log = log_callback;
    param->p_log_private = encoder;
    param->i_log_level = X264_LOG_INFO;
    param->i_width = config->width;
    param->i_height = config->height;
    param->i_csp = encoder->csp;
    param->i_bitdepth = config->bit_depth;
    param->b_vfr_input = 0;
    param->b_annexb = 1;
    param->b_repeat_headers = config->repeat_headers;
    param->b_full_recon = 1;
#ifdef X264_CPU_AVX512
    /* MB-tree's AVX-512 code takes 16 macroblocks at a time and reads uninitialised memory behind
     * rows that do not fill them, so that encodes differ from run to run. */
    if (config->repeatable && (config->width + 15) / 16 % 16)
        param->cpu &= ~X264_CPU_AVX512;
#endif
    int status = parse(param, config->names, config->values, config->n_options, bad_option);
    if (status != SSIMRDO_OK)
        return status;
    if (config->fast_first_pass)
        x264_param_apply_fastfirstpass(param);
    if (x264_param_apply_profile(param, config->profile) < 0)
        return SSIMRDO_BAD_PROFILE;
    return SSIMRDO_OK;
}

/* x264 keeps some options as text in memory that belongs to the parameters; a copy of these would
 * share it and free or move it under the encoder. */
static int is_text_option(const char *name)
{
    static const char *const names[] = {"cqm", "cqmfile", "opencl-clbin", "stats", "zones", NULL};
    char spelled[16];
    /* x264 takes a negation of any option, and writes "false" where it expects a text. */
    if (strncmp(name, "no", 2) == 0)
        name += name[2] == '-' || name[2] == '_' ? 3 : 2;
    size_t length = strlen(name);
    if (length >= sizeof spelled)
        return 0;
    for (size_t i = 0; i <= length; i++)
        spelled[i] = name[i] == '_' ? '-' : name[i];
    return is_listed(spelled, names);
}

/* Every frame names the parameters that hold from it on, so the encoder's own are kept as well. */
static int configure_variants(ssimrdo_encoder *encoder, const ssimrdo_config *config,
                              size_t *bad_option)
{
    encoder->params = calloc(config->n_variants + 1, sizeof *encoder->params);
    if (!encoder->params)
        return SSIMRDO_OUT_OF_MEMORY;
    encoder->n_variants = config->n_variants;
    x264_encoder_parameters(encoder->x264, &encoder->params[0]);
    size_t first = 0;
    for (size_t i = 0; i < config->n_variants; i++) {
        encoder->params[i + 1] = encoder->params[0];
        *bad_option = config->n_options + first;
        for (size_t j = 0; j < config->variant_lengths[i]; j++)
            if (is_text_option(config->variant_names[first + j])) {
                *bad_option += j;
                return SSIMRDO_SHARED_OPTION;
            }
        int status = parse(&encoder->params[i + 1], config->variant_names + first,
                           config->variant_values + first, config->variant_lengths[i], bad_option);
        if (status != SSIMRDO_OK)
            return status;
        first += config->variant_lengths[i];
    }
    return SSIMRDO_OK;
}

int ssimrdo_encoder_open(ssimrdo_encoder *encoder, const ssimrdo_config *config,
                         size_t *bad_option)
{
    if (encoder->x264 || encoder->chroma)
        return SSIMRDO_OPEN_FAILED;
    if (config->width < 2 || config->height < 2 || config->width > SSIMRDO_MAX_SIDE ||
        config->height > SSIMRDO_MAX_SIDE || config->width % 2 || config->height % 2 ||
        (config->bit_depth != 8 && config->bit_depth != 10))
        return SSIMRDO_BAD_SIZE;
    /* Asked beforehand, because x264 prints these errors to stderr itself. */
    if (!is_listed(config->preset, x264_preset_names))
        return SSIMRDO_BAD_PRESET;
    if (config->tune && !is_listed(config->tune, x264_tune_names))
        return SSIMRDO_BAD_TUNE;
    if (!is_listed(config->profile, x264_profile_names))
        return SSIMRDO_BAD_PROFILE;
    int status = allocate(encoder, config);
    if (status != SSIMRDO_OK)
        return status;

    x264_param_t param;
    *bad_option = 0;
    if (x264_param_default_preset(&param, config->preset, config->tune) < 0)
        return SSIMRDO_BAD_PRESET;
    status = configure(encoder, config, &param, bad_option);
    if (status == SSIMRDO_OK) {
        encoder->x264 = x264_encoder_open(&param);
        if (!encoder->x264)
            status = SSIMRDO_OPEN_FAILED;
        else if (config->n_variants > 0)
            status = configure_variants(encoder, config, bad_option);
    }
    x264_param_cleanup(&param);
    return status;
}

static void set_payload(ssimrdo_packet *packet, const x264_nal_t *nals, int n_nals, int size)
{
    /* x264 lays the payloads of one call out one after another. */
    packet->data = size > 0 && n_nals > 0 ? nals[0].p_payload : NULL;
    packet->size = packet->data ? (size_t)size : 0;
}

int ssimrdo_encoder_headers(ssimrdo_encoder *encoder, ssimrdo_packet *headers)
{
    x264_nal_t *nals = NULL;
    int n_nals = 0;
    memset(headers, 0, sizeof *headers);
    if (!encoder->x264)
        return SSIMRDO_NOT_OPEN;
    int size = x264_encoder_headers(encoder->x264, &nals, &n_nals);
    if (size < 0)
        return SSIMRDO_ENCODE_FAILED;
    set_payload(headers, nals, n_nals, size);
    return SSIMRDO_OK;
}

static void copy_luma(const ssimrdo_encoder *encoder, const x264_image_t *image, void *target)
{
    size_t row_bytes = (size_t)encoder->width * (size_t)encoder->bytes_per_sample;
    for (int y = 0; y < encoder->height; y++)
        memcpy((uint8_t *)target + (size_t)y * row_bytes,
               image->plane[0] + (ptrdiff_t)y * image->i_stride[0], row_bytes);
}

static void set_picture(const ssimrdo_encoder *encoder, x264_picture_t *picture, const void *luma,
                        int64_t pts)
{
    int sample = encoder->bytes_per_sample;
    x264_picture_init(picture);
    picture->i_pts = pts;
    picture->img.i_csp = encoder->csp;
    picture->img.i_plane = 3;
    /* x264 only reads input pictures, but its struct has no const. */
    picture->img.plane[0] = (uint8_t *)(uintptr_t)luma;
    picture->img.i_stride[0] = encoder->width * sample;
    for (int plane = 1; plane <= 2; plane++) {
        picture->img.plane[plane] = encoder->chroma;
        picture->img.i_stride[plane] = encoder->width / 2 * sample;
    }
}

int ssimrdo_encoder_encode(ssimrdo_encoder *encoder, const void *luma, size_t luma_bytes,
                           const float *offsets, size_t n_offsets, int64_t pts, int type,
                           size_t variant, void *reconstruction, size_t reconstruction_bytes,
                           ssimrdo_packet *packet)
{
    memset(packet, 0, sizeof *packet);
    if (!encoder->x264)
        return SSIMRDO_NOT_OPEN;
    size_t frame_bytes = (size_t)encoder->width * (size_t)encoder->height *
                         (size_t)encoder->bytes_per_sample;
    if ((luma && luma_bytes != frame_bytes) ||
        (offsets && n_offsets != encoder->n_macroblocks) || variant > encoder->n_variants ||
        (reconstruction && reconstruction_bytes != frame_bytes))
        return SSIMRDO_BAD_SIZE;

    x264_picture_t in, out;
    x264_nal_t *nals = NULL;
    int n_nals = 0;
    if (luma) {
        set_picture(encoder, &in, luma, pts);
        in.i_type = type;
        if (encoder->params)
            in.param = &encoder->params[variant];
        if (offsets) {
            memcpy(encoder->offsets, offsets, n_offsets * sizeof *offsets);
            in.prop.quant_offsets = encoder->offsets;
        }
    }
    int size = x264_encoder_encode(encoder->x264, &nals, &n_nals, luma ? &in : NULL, &out);
    if (size < 0)
        return SSIMRDO_ENCODE_FAILED;
    set_payload(packet, nals, n_nals, size);
    if (packet->data) {
        packet->pts = out.i_pts;
        packet->dts = out.i_dts;
        packet->keyframe = out.b_keyframe;
        packet->type = out.i_type;
        if (reconstruction)
            copy_luma(encoder, &out.img, reconstruction);
    }
    return SSIMRDO_OK;
}

int ssimrdo_encoder_delayed(ssimrdo_encoder *encoder)
{
    return encoder->x264 ? x264_encoder_delayed_frames(encoder->x264) : 0;
}

void ssimrdo_encoder_close(ssimrdo_encoder *encoder)
{
    if (encoder->x264) {
        x264_encoder_close(encoder->x264);
        encoder->x264 = NULL;
    }
}

void ssimrdo_encoder_free(ssimrdo_encoder *encoder)
{
    if (!encoder)
        return;
    ssimrdo_encoder_close(encoder);
    free(encoder->chroma);
    free(encoder->offsets);
    free(encoder->params);
    pthread_mutex_destroy(&encoder->log_lock);
    free(encoder);
}

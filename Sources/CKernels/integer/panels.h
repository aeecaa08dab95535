// What products of many rows work on: a panel of unpacked weights, and a row block; see products.inc.
#ifndef EBB_PANELS_H
#define EBB_PANELS_H
#include "portable/layout.h"

typedef struct {
    const uint8_t *q;              // [kc/4][tiles][64]
    const float *scales, *offsets; // [kc/step][tiles][16], each as often as the instruction set wants
    uint32_t kc;
    uint32_t step;      // values of k that share a weight's scale: 16 or 32
    uint32_t run;       // values of k summed as integers: the finer of step and the activations' block
    uint32_t wide;      // 1 where the activations' scale covers two runs
    uint32_t bits, symmetric;
    uint32_t tiles, channels; // of the matrix, in all tiles
    int first;          // part of k
} panel_view;

typedef struct { // a row block's part of a panel
    const int32_t *q;    // [kc/4][r]
    const float *scale;  // [kc/block][r]
    const int32_t *bias; // [kc/run][r]: of symmetric weights, -zero * Σ q; none where that is 0. Or, where panel_lanes says
                         // so, [kc/min(run, panel_lanes)][r]: zero times ebb_activations' lanes
    const float *sum;    // [kc/step][r]: of asymmetric ones, Σ scale * q
    uint32_t r;
} rows_view;
#endif

// peer N K: the same products by ggml's CPU backend with one thread, for count.c. A line is `FORMAT ROWS KERNELS`, where
// KERNELS is `mapped` (weights as the file has them) or `repacked` (as llama.cpp lays them out at load, where it can).
#include "ggml-alloc.h"
#include "ggml-backend.h"
#include "ggml-cpu.h"
#include <cstdio>
#include <cstdlib>
#include <sys/syscall.h>
#include <unistd.h>
#include <vector>

static bool product(ggml_backend_t backend, ggml_backend_buffer_type_t kind, ggml_type type, const char *format,
                    const char *kernels, int64_t n, int64_t k, int64_t rows) {
    ggml_init_params sizes = {1 << 20, nullptr, true};
    ggml_context *weights = ggml_init(sizes), *rest = ggml_init(sizes);
    ggml_tensor *w = ggml_new_tensor_2d(weights, type, k, n), *x = ggml_new_tensor_2d(rest, GGML_TYPE_F32, k, rows);
    ggml_backend_buffer_t buffer = ggml_backend_alloc_ctx_tensors_from_buft(weights, kind);
    ggml_tensor *y = ggml_mul_mat(rest, w, x);
    ggml_cgraph *graph = ggml_new_graph(rest);
    ggml_build_forward_expand(graph, y);
    ggml_backend_buffer_t others = ggml_backend_alloc_ctx_tensors(rest, backend);
    if (!ggml_backend_supports_op(backend, y) || (kind != ggml_backend_cpu_buffer_type() && !w->extra)) return false;
    std::vector<float> values(n * k), input(rows * k);
    for (size_t i = 0; i < values.size(); i++) values[i] = float(i % 251) - 125;
    for (size_t i = 0; i < input.size(); i++) input[i] = float(i % 61) - 30;
    std::vector<char> data(ggml_nbytes(w));
    ggml_quantize_chunk(type, values.data(), data.data(), 0, n, k, nullptr);
    ggml_backend_tensor_set(w, data.data(), 0, data.size());
    ggml_backend_tensor_set(x, input.data(), 0, input.size() * 4);
    printf("%s %d %s\n", format, int(rows), kernels);
    fflush(stdout);
    syscall(9000);
    ggml_backend_graph_compute(backend, graph);
    syscall(9001);
    ggml_backend_buffer_free(buffer);
    ggml_backend_buffer_free(others);
    ggml_free(weights);
    ggml_free(rest);
    return true;
}

int main(int count, char **arguments) {
    if (count != 3) return 2;
    const int64_t n = atoi(arguments[1]), k = atoi(arguments[2]);
    ggml_backend_t backend = ggml_backend_cpu_init();
    ggml_backend_cpu_set_n_threads(backend, 1);
    ggml_backend_reg_t registry = ggml_backend_dev_backend_reg(ggml_backend_get_device(backend));
    auto extra = (ggml_backend_dev_get_extra_bufts_t)ggml_backend_reg_get_proc_address(registry, "ggml_backend_dev_get_extra_bufts");
    const struct { ggml_type type; const char *name; } formats[] = {
        {GGML_TYPE_Q4_0, "Q4_0"}, {GGML_TYPE_Q4_K, "Q4_K"}, {GGML_TYPE_Q6_K, "Q6_K"}, {GGML_TYPE_Q8_0, "Q8_0"}};
    for (int rows : {1, 4, 8, 512})
        for (const auto &format : formats) {
            product(backend, ggml_backend_cpu_buffer_type(), format.type, format.name, "mapped", n, k, rows);
            for (auto kind = extra(ggml_backend_get_device(backend)); kind && *kind; kind++)
                product(backend, *kind, format.type, format.name, "repacked", n, k, rows);
        }
    return 0;
}

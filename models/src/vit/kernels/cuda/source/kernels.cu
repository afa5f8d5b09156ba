// All kernels, as one module.
#include "assignment.cuh"
#include "attention.cuh"
#include "embedding.cuh"
#include "layer_norm.cuh"
#include "linear.cuh"
#include "update.cuh"
#include "views.cuh"

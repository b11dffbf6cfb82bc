// The ops of one layer, for the op that runs a stack of them (dense_stack.cpp).
#pragma once

#include <ATen/core/Tensor.h>

#include <tuple>

namespace lgn {

at::Tensor logic(const at::Tensor& x, const at::Tensor& table, const at::Tensor& a, const at::Tensor& b);
at::Tensor logic_group_sum(const at::Tensor& x, const at::Tensor& table, const at::Tensor& a, const at::Tensor& b,
                           int64_t k, double tau);
// The gradients of x (empty if it is not needed) and of the table.
std::tuple<at::Tensor, at::Tensor> logic_backward(const at::Tensor& grad, const at::Tensor& x, const at::Tensor& table,
                                                  const at::Tensor& a, const at::Tensor& b, bool need_grad_x);
std::tuple<at::Tensor, at::Tensor> logic_group_sum_backward(const at::Tensor& grad, const at::Tensor& x,
                                                            const at::Tensor& table, const at::Tensor& a,
                                                            const at::Tensor& b, double tau, bool need_grad_x);
at::Tensor group_sum(const at::Tensor& x, int64_t k, double tau);
at::Tensor group_sum_backward(const at::Tensor& grad, int64_t features, double tau, at::ScalarType dtype);

}  // namespace lgn

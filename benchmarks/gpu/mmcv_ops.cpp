// Declares and registers the few ops of mmcv that Mask and Cascade R-CNN run; their sources are mmcv's own.
#include <torch/extension.h>

#include "pytorch_cpp_helper.hpp"
#include "pytorch_device_registry.hpp"

Tensor nms(Tensor boxes, Tensor scores, float iou_threshold, int offset);
Tensor softnms(Tensor boxes, Tensor scores, Tensor dets, float iou_threshold, float sigma, float min_score,
               int method, int offset);
std::vector<std::vector<int>> nms_match(Tensor dets, float iou_threshold);
void roi_align_forward(Tensor input, Tensor rois, Tensor output, Tensor argmax_y, Tensor argmax_x,
                       int aligned_height, int aligned_width, float spatial_scale, int sampling_ratio,
                       int pool_mode, bool aligned);
void roi_align_backward(Tensor grad_output, Tensor rois, Tensor argmax_y, Tensor argmax_x, Tensor grad_input,
                        int aligned_height, int aligned_width, float spatial_scale, int sampling_ratio,
                        int pool_mode, bool aligned);

#ifdef MMCV_WITH_CUDA
Tensor NMSCUDAKernelLauncher(Tensor boxes, Tensor scores, float iou_threshold, int offset);
void ROIAlignForwardCUDAKernelLauncher(Tensor input, Tensor rois, Tensor output, Tensor argmax_y,
                                       Tensor argmax_x, int aligned_height, int aligned_width,
                                       float spatial_scale, int sampling_ratio, int pool_mode, bool aligned);
void ROIAlignBackwardCUDAKernelLauncher(Tensor grad_output, Tensor rois, Tensor argmax_y, Tensor argmax_x,
                                        Tensor grad_input, int aligned_height, int aligned_width,
                                        float spatial_scale, int sampling_ratio, int pool_mode,
                                        bool aligned);

Tensor nms_impl(Tensor boxes, Tensor scores, float iou_threshold, int offset);
void roi_align_forward_impl(Tensor input, Tensor rois, Tensor output, Tensor argmax_y, Tensor argmax_x,
                            int aligned_height, int aligned_width, float spatial_scale, int sampling_ratio,
                            int pool_mode, bool aligned);
void roi_align_backward_impl(Tensor grad_output, Tensor rois, Tensor argmax_y, Tensor argmax_x,
                             Tensor grad_input, int aligned_height, int aligned_width, float spatial_scale,
                             int sampling_ratio, int pool_mode, bool aligned);

REGISTER_DEVICE_IMPL(nms_impl, CUDA, NMSCUDAKernelLauncher);
REGISTER_DEVICE_IMPL(roi_align_forward_impl, CUDA, ROIAlignForwardCUDAKernelLauncher);
REGISTER_DEVICE_IMPL(roi_align_backward_impl, CUDA, ROIAlignBackwardCUDAKernelLauncher);
#endif

PYBIND11_MODULE(TORCH_EXTENSION_NAME, m) {
  m.def("nms", &nms, py::arg("boxes"), py::arg("scores"), py::arg("iou_threshold"), py::arg("offset"));
  m.def("softnms", &softnms, py::arg("boxes"), py::arg("scores"), py::arg("dets"), py::arg("iou_threshold"),
        py::arg("sigma"), py::arg("min_score"), py::arg("method"), py::arg("offset"));
  m.def("nms_match", &nms_match, py::arg("dets"), py::arg("iou_threshold"));
  m.def("roi_align_forward", &roi_align_forward, py::arg("input"), py::arg("rois"), py::arg("output"),
        py::arg("argmax_y"), py::arg("argmax_x"), py::arg("aligned_height"), py::arg("aligned_width"),
        py::arg("spatial_scale"), py::arg("sampling_ratio"), py::arg("pool_mode"), py::arg("aligned"));
  m.def("roi_align_backward", &roi_align_backward, py::arg("grad_output"), py::arg("rois"),
        py::arg("argmax_y"), py::arg("argmax_x"), py::arg("grad_input"), py::arg("aligned_height"),
        py::arg("aligned_width"), py::arg("spatial_scale"), py::arg("sampling_ratio"), py::arg("pool_mode"),
        py::arg("aligned"));
}

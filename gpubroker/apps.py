from django.apps import AppConfig


class GpubrokerConfig(AppConfig):
    name = "gpubroker"

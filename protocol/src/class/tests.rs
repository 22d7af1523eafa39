//! The classes of device names: of the reference, of drivers, and hostile ones.

use proptest::prelude::*;

use super::*;

#[track_caller]
fn classes(cases: &[(&str, &str)]) {
    for (device, class) in cases {
        assert_eq!(HardwareClass::of(device).as_str(), *class, "{device}");
        assert_eq!(HardwareClass::of(class).as_str(), *class, "the class's own name");
    }
}

/// Every result of `sporemesh.gpu.normalize_gpu_model` on names that PyTorch gives, and the classes
/// that the reference's own tests and golden objects use.
#[test]
fn names_that_the_reference_publishes_keep_its_class() {
    for name in [
        "A100",
        "AMD_INSTINCT_MI250X",
        "AMD_INSTINCT_MI300X",
        "AMD_RADEON_780M_GRAPHICS",
        "AMD_RADEON_GRAPHICS",
        "AMD_RADEON_PRO_W7900",
        "AMD_RADEON_RX_7900_XTX",
        "APPLE_MPS",
        "CPU",
        "GTX_980",
        "GTX_1060",
        "H100",
        "NVIDIA_A10G",
        "NVIDIA_A100_PCIE_40GB",
        "NVIDIA_A100_SXM4_80GB",
        "NVIDIA_GH200_480GB",
        "NVIDIA_H100_80GB_HBM3",
        "NVIDIA_H100_PCIE",
        "NVIDIA_H200",
        "NVIDIA_L40S",
        "NVIDIA_RTX_A6000",
        "NVIDIA_RTX_PRO_6000_BLACKWELL_MAX_Q_WORKSTATION_EDITION",
        "NVIDIA_TITAN_RTX",
        "QUADRO_T2000",
        "RADEON_RX_7900_XTX",
        "RTX_3060",
        "RTX_3090",
        "RTX_4090",
        "RTX_5090",
        "RTX_6000",
        "TESLA_T4",
        "TESLA_V100_SXM2_16GB",
        "UNKNOWN",
    ] {
        assert_eq!(HardwareClass::of(name).as_str(), name);
    }
    classes(&[
        ("NVIDIA GeForce RTX 4090", "RTX_4090"),
        ("NVIDIA_GeForce_RTX_4090", "RTX_4090"),
        ("RTX_3060-class", "RTX_3060"),
        ("RTX5090", "RTX_5090"),
        ("H100-SXM5-80GB", "H100"),
        ("H100 80GB HBM3", "H100"),
        ("A100-SXM4-40GB", "A100"),
        ("mps", "APPLE_MPS"),
        ("Apple", "APPLE_MPS"),
        ("cpu", "CPU"),
        ("unknown", "UNKNOWN"),
        ("", "UNKNOWN"),
        ("  ", "UNKNOWN"),
        ("AMD  Radeon--Pro W7900", "AMD_RADEON_PRO_W7900"),
        ("NVIDIA RTX A6000", "NVIDIA_RTX_A6000"),
        ("NVIDIA H100 80GB HBM3", "NVIDIA_H100_80GB_HBM3"),
        ("Tesla V100-SXM2-16GB", "TESLA_V100_SXM2_16GB"),
        ("größer", "GRÖSSER"),
    ]);
}

#[test]
fn cards_of_one_number_have_classes_of_their_own() {
    classes(&[
        ("NVIDIA GeForce RTX 3060", "RTX_3060"),
        ("NVIDIA GeForce RTX 3060 Ti", "RTX_3060_TI"),
        ("NVIDIA GeForce RTX 3060Ti", "RTX_3060_TI"),
        ("NVIDIA GeForce RTX 4070 SUPER", "RTX_4070_SUPER"),
        ("NVIDIA GeForce RTX 4070 Ti SUPER", "RTX_4070_TI_SUPER"),
        ("RTX 4070 Super Ti", "RTX_4070_TI_SUPER"),
        ("GeForce GTX 980 Ti", "GTX_980_TI"),
        ("NVIDIA GeForce GTX 1660 SUPER", "GTX_1660_SUPER"),
        ("NVIDIA GeForce RTX 4090 D", "RTX_4090_D"),
        ("NVIDIA GeForce RTX 4090D", "RTX_4090_D"),
        ("NVIDIA GeForce GTX 1060 6GB", "GTX_1060"),
        ("NVIDIA GeForce GTX 1060 3GB", "GTX_1060_3GB"),
        ("RTX 4090 24GB", "RTX_4090"),
        ("Quadro RTX 6000", "RTX_6000"),
        ("NVIDIA RTX 6000 Ada Generation", "RTX_6000_ADA"),
        ("NVIDIA RTX 4000 SFF Ada Generation", "RTX_4000_SFF_ADA"),
        ("NVIDIA RTX PRO 6000 Blackwell Workstation Edition", "NVIDIA_RTX_PRO_6000_BLACKWELL_WORKSTATION_EDITION"),
        ("NVIDIA A100-SXM4-40GB MIG 1g.5gb", "NVIDIA_A100_SXM4_40GB_MIG_1G.5GB"),
    ]);
}

#[test]
fn laptop_devices_have_classes_of_their_own() {
    classes(&[
        ("NVIDIA GeForce RTX 4090 Laptop GPU", "RTX_4090_LAPTOP"),
        ("RTX 4090 Laptop GPU", "RTX_4090_LAPTOP"),
        ("NVIDIA GeForce RTX 3070 Ti Laptop GPU", "RTX_3070_TI_LAPTOP"),
        ("NVIDIA GeForce RTX 2080 with Max-Q Design", "RTX_2080_MAX_Q"),
        ("NVIDIA GeForce RTX 2080 Super with Max-Q Design", "RTX_2080_SUPER_MAX_Q"),
        ("NVIDIA GeForce RTX 3050 Mobile", "RTX_3050_LAPTOP"),
        ("GeForce GTX 980M", "GTX_980_LAPTOP"),
        ("NVIDIA RTX 5000 Ada Generation Laptop GPU", "RTX_5000_ADA_LAPTOP"),
        ("NVIDIA RTX A2000 Laptop GPU", "NVIDIA_RTX_A2000_LAPTOP_GPU"),
        ("Quadro T2000 with Max-Q Design", "QUADRO_T2000_WITH_MAX_Q_DESIGN"),
        ("AMD Radeon RX 7600M XT", "AMD_RADEON_RX_7600M_XT"),
        ("Intel(R) Arc(TM) A770M Graphics", "INTEL_ARC_A770M_GRAPHICS"),
    ]);
}

#[test]
fn apple_chips_have_classes_of_their_own() {
    classes(&[
        ("Apple M4", "APPLE_M4"),
        ("Apple M1 Pro", "APPLE_M1_PRO"),
        ("Apple M4 Max", "APPLE_M4_MAX"),
        ("Apple M2 Ultra", "APPLE_M2_ULTRA"),
        ("Apple M1 (G13G B1)", "APPLE_M1"),
        ("Apple A17 Pro GPU", "APPLE_A17_PRO"),
        ("Apple Paravirtual device", "APPLE_MPS"),
        ("Apple M123456789", "APPLE_MPS"),
        ("ANGLE (Apple, ANGLE Metal Renderer: Apple M1 Pro, Unspecified Version)", "APPLE_M1_PRO"),
    ]);
}

/// One card in the words of Vulkan, OpenGL, Direct3D and Metal, old and new.
#[test]
fn driver_text_makes_no_other_class() {
    let same = [
        (
            "AMD_RADEON_RX_7900_XTX",
            &[
                "AMD Radeon RX 7900 XTX",
                "AMD Radeon(TM) RX 7900 XTX",
                "Radeon RX 7900 XTX",
                "AMD Radeon RX 7900 XTX (RADV NAVI31)",
                "AMD Radeon RX 7900 XTX (radeonsi, navi31, LLVM 17.0.6, DRM 3.57, 6.8.0-45-generic)",
                "zink Vulkan 1.3(AMD Radeon RX 7900 XTX (RADV NAVI31))",
                "ANGLE (AMD, AMD Radeon RX 7900 XTX Direct3D11 vs_5_0 ps_5_0, D3D11)",
            ][..],
        ),
        (
            "AMD_RADEON_RX_580_SERIES",
            &["Radeon RX 580 Series", "AMD Radeon RX 580 Series (POLARIS10, DRM 3.40.0, LLVM 11.0.1)"],
        ),
        ("AMD_POLARIS10", &["AMD RADV POLARIS10 (ACO)", "AMD POLARIS10 (DRM 3.35.0, 5.3.0, LLVM 9.0.0)"]),
        (
            "AMD_RADEON_GRAPHICS",
            &[
                "AMD Radeon(TM) Graphics",
                "AMD Radeon Graphics (radeonsi, renoir, LLVM 15.0.7, DRM 3.54)",
                "AMD Radeon Graphics (RADV RENOIR)",
            ],
        ),
        ("AMD_RADEON_780M", &["AMD Radeon 780M (RADV PHOENIX)", "AMD Radeon(TM) 780M"]),
        (
            "INTEL_ARC_A770_GRAPHICS",
            &[
                "Intel(R) Arc(tm) A770 Graphics (DG2)",
                "Intel(R) Arc(TM) A770 Graphics",
                "Mesa Intel(R) Arc(tm) A770 Graphics (DG2)",
                "Intel® Arc™ A770 Graphics",
            ],
        ),
        (
            "INTEL_UHD_GRAPHICS_630",
            &[
                "Intel(R) UHD Graphics 630 (CFL GT2)",
                "Intel(R) UHD Graphics 630",
                "Mesa Intel(R) UHD Graphics 630 (CFL GT2)",
                "Intel UHD Graphics 630",
            ],
        ),
        ("INTEL_HD_GRAPHICS_4000", &["Mesa DRI Intel(R) HD Graphics 4000 (IVB GT2)", "Intel HD Graphics 4000"]),
        ("INTEL_IRIS_XE_GRAPHICS", &["Intel(R) Iris(R) Xe Graphics (TGL GT2)", "Intel(R) Iris(R) Xe Graphics"]),
        (
            "LLVMPIPE",
            &[
                "llvmpipe (LLVM 15.0.6, 256 bits)",
                "llvmpipe (LLVM 17.0.2, 512 bits)",
                "LLVMPIPE_(LLVM_15.0.6,_256_BITS)",
            ],
        ),
        ("SWIFTSHADER_DEVICE", &["SwiftShader Device (LLVM 10.0.0)", "SwiftShader Device (Subzero)"]),
        ("MICROSOFT_BASIC_RENDER_DRIVER", &["Microsoft Basic Render Driver"]),
        (
            "RTX_4090",
            &[
                "NVIDIA GeForce RTX 4090/PCIe/SSE2",
                "NVIDIA GeForce RTX 4090 (NVK AD102)",
                "zink Vulkan 1.3(NVIDIA GeForce RTX 4090 (NVIDIA_PROPRIETARY))",
                "Microsoft Direct3D12 (NVIDIA GeForce RTX 4090)",
                "D3D12 (NVIDIA GeForce RTX 4090)",
            ],
        ),
        (
            "RTX_3060_LAPTOP",
            &["NVIDIA GeForce RTX 3060 Laptop GPU/PCIe/SSE2", "NVIDIA GeForce RTX 3060 Laptop GPU (NVK GA106)"],
        ),
        ("NVIDIA_H100_80GB_HBM3", &["NVIDIA H100 80GB HBM3/PCIe/SSE2", "NVIDIA H100 80GB HBM3"]),
        ("APPLE_M2_MAX", &["Apple M2 Max", "Apple M2 Max (G14C B1)"]),
    ];
    for (class, names) in same {
        for name in names {
            classes(&[(name, class)]);
        }
    }
}

#[test]
fn processor_is_of_the_class_of_its_steps() {
    classes(&[
        ("CPU", "CPU"),
        ("CPU 16x32", "CPU_16X32"),
        ("CPU 16x32 (AMD Ryzen 7 7700X)", "CPU_16X32"),
        ("CPU 1x1 (NVIDIA RTX 4090 and Apple M4)", "CPU_1X1"),
        ("cpu 016X0032 ()", "CPU_16X32"),
        ("CPU 16x", "CPU_16X"),
        ("CPU 16", "CPU_16"),
        ("CPU 1x99999999", "CPU_1X99999999"),
        ("llvmpipe (LLVM 15.0.6, 256 bits) CPU 16x32", "LLVMPIPE_CPU_16X32"),
    ]);
    let steps = |class: &str| HardwareClass::of(class).processor();
    let found = ProcessorSteps { single: 16, multi: 32 };
    assert_eq!(steps("CPU 16x32 (x)"), Some(found));
    assert_eq!(steps("llvmpipe (LLVM 15) CPU 16x32"), Some(found));
    assert_eq!(found.to_string(), "16x32");
    for other in ["CPU", "CPU 16", "CPU x16", "CPU 1x99999999", "XCPU 1x1", "RTX 4090", "CPU +1x1"] {
        assert_eq!(steps(other), None, "{other}");
    }
}

#[test]
fn tolerance_is_of_the_class_and_its_variants() {
    for (device, tolerance) in [
        ("H100", 0.0015),
        ("A100-SXM4", 0.0015),
        ("RTX 3090", 0.003),
        ("RTX 3060 Ti", 0.003),
        ("RTX 3060 Laptop GPU", 0.003),
        ("RTX 4090", 0.002),
        ("CPU", 0.002),
        ("CPU 16x32 (x)", 0.002),
    ] {
        assert_eq!(HardwareClass::of(device).tolerance().to_bits(), f64::to_bits(tolerance), "{device}");
    }
}

#[test]
fn hostile_name_gives_a_short_class_of_visible_characters() {
    classes(&[
        ("RTX\u{0}4090\u{1b}[2J", "RTX_4090"),
        ("AMD\u{202e}Radeon\u{200b}\nX", "AMD_RADEON_X"),
        ("((", "UNKNOWN"),
        ("(RADV NAVI31)", "RADV_NAVI31"),
    ]);
    for name in [
        "(".repeat(3 << 20),
        "x".repeat(3 << 20),
        "ß ".repeat(1 << 20),
        "\u{0}".repeat(1 << 20),
        " ".repeat(1 << 20) + "RTX",
    ] {
        let class = HardwareClass::of(&name);
        assert!(class.as_str().chars().count() <= 64 && class.as_str().len() <= 256, "{class}");
        assert_eq!(HardwareClass::of(class.as_str()), class);
    }
    let buried = "x".repeat(300) + " RTX 4090";
    assert_eq!(HardwareClass::of(&buried).as_str(), "X".repeat(64));
}

proptest! {
    #[test]
    fn class_of_a_class_is_itself(name in "\\PC{0,90}") {
        let class = HardwareClass::of(&name);
        prop_assert_eq!(HardwareClass::of(class.as_str()), class);
    }

    #[test]
    fn class_of_likely_words_is_a_fixed_point(words in prop::collection::vec(prop::sample::select(vec![
        "RTX", "GTX", "4090", "1060", "3GB", "Ti", "M", "Laptop", "Max-Q", "(", ")", "(R)", "AMD", "RADV", "Radeon", "Mesa", "DRI",
        "Apple", "M4", "MPS", "CPU", "4x8", "/PCIe/SSE2", "zink Vulkan", "ANGLE", ", ", "D3D12", "H100", "A100", "_", "-", " ", "x",
    ]), 0..10), glue in prop::sample::select(vec!["", " ", "_"])) {
        let class = HardwareClass::of(&words.join(glue));
        prop_assert!(!class.as_str().is_empty());
        prop_assert_eq!(HardwareClass::of(class.as_str()), class);
    }
}

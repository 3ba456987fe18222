"""The report in a real browser: nothing refused or broken, every image drawn, legible on a desk and on a telephone."""

import importlib.util
import shutil
from pathlib import Path

import numpy as np
import numpyro
import numpyro.distributions as dist
import pytest
import xarray as xr

from armillary.core import ReportSection, infer, registry, write_report

CHROMIUM, DRIVER = shutil.which("chromium"), shutil.which("chromedriver")

pytestmark = [
    pytest.mark.skipif(not (CHROMIUM and DRIVER), reason="Debian's chromium and chromium-driver are not installed"),
    pytest.mark.skipif(importlib.util.find_spec("selenium") is None, reason="selenium is not installed"),
]

FLAGS = (
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-dev-shm-usage",
)

SMALL_TEXT = """
const small = [];
const walk = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
while (walk.nextNode()) {
  const node = walk.currentNode;
  if (!node.data.trim()) continue;
  const size = parseFloat(getComputedStyle(node.parentElement).fontSize);
  if (size < 12) small.push(node.data.trim() + ': ' + size);
}
return small;
"""

# Text against the nearest background that is painted, as WCAG 2.1 counts contrast.
LOW_CONTRAST = """
const canvas = document.createElement('canvas').getContext('2d', {willReadFrequently: true});
const rgb = c => { canvas.clearRect(0, 0, 1, 1); canvas.fillStyle = c; canvas.fillRect(0, 0, 1, 1);
                   return canvas.getImageData(0, 0, 1, 1).data; };
const lum = c => { const f = [...c].slice(0, 3).map(v => v / 255)
                     .map(v => v <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4);
                   return 0.2126 * f[0] + 0.7152 * f[1] + 0.0722 * f[2]; };
const low = [];
for (const e of document.querySelectorAll('body *')) {
  if (![...e.childNodes].some(n => n.nodeType === 3 && n.data.trim())) continue;
  let b = e;
  while (b && rgb(getComputedStyle(b).backgroundColor)[3] === 0) b = b.parentElement;
  const back = b ? rgb(getComputedStyle(b).backgroundColor) : [255, 255, 255];
  const [x, y] = [lum(rgb(getComputedStyle(e).color)), lum(back)].sort((p, q) => q - p);
  const ratio = (x + 0.05) / (y + 0.05);
  if (ratio < 4.5) low.push(e.textContent.trim().slice(0, 40) + ': ' + ratio.toFixed(2));
}
return low;
"""


def model(y):
    location = numpyro.sample("location", dist.Normal(0.0, 5.0))
    scale = numpyro.sample("a_name_longer_than_a_telephone_would_like_to_show", dist.HalfNormal(2.0))
    with numpyro.plate("site", 3):
        numpyro.sample("effect", dist.Normal(location, scale))
    numpyro.sample("y", dist.Normal(location, scale), obs=y)


def evidence(log_z, warnings):
    values = {"log_z": log_z, "log_z_err": 0.1}
    return xr.DataTree(
        xr.Dataset(values, attrs={"method": "lhm", "diagnostics": '{"ess": 12.5}', "warnings": warnings})
    )


@pytest.fixture(scope="module")
def report(tmp_path_factory):
    """A report of a result of `infer`, shown as two, with all the sections that it can have."""
    tree = infer(model, np.array([1.0, 2.0, 4.0]), num_warmup=50, num_samples=50, progress_bar=False)
    trees = {"first": tree, "second": tree.copy()}
    trees["first"]["evidence"] = evidence(-12.0, "[]")
    trees["second"]["evidence"] = evidence(-9.5, '["few draws: take more"]')
    file = tmp_path_factory.mktemp("report") / "report.html"
    # What a plugin may bring: wider than any page, and with elements that are no section of ours.
    wide = "<table><tr><th>figures</th><td>" + ", ".join(map(str, range(500))) + "</td></tr></table>"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(registry, "report_sections", lambda tree: [ReportSection("Wide", wide)])
        write_report(trees, file, title="A report in a browser")
    return file


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    from selenium import webdriver
    from selenium.webdriver.chrome.service import Service

    options = webdriver.ChromeOptions()
    options.binary_location = CHROMIUM
    for flag in (*FLAGS, f"--user-data-dir={tmp_path_factory.mktemp('profile')}"):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    driver = webdriver.Chrome(options=options, service=Service(DRIVER))
    yield driver
    driver.quit()


@pytest.fixture(params=[1280, 400])
def page(request, browser, report):
    """The report opened at a width in pixels."""
    size = {"width": request.param, "height": 900, "deviceScaleFactor": 1, "mobile": False}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    browser.get(report.as_uri())
    assert browser.execute_script("return innerWidth") == request.param
    return browser


def test_no_error_on_the_console(page):
    assert page.get_log("browser") == []


def test_every_image_is_drawn(page):
    images = page.execute_script(
        "return [...document.images].map(i => [i.alt, i.complete, i.naturalWidth, i.getBoundingClientRect().width])"
    )
    assert len(images) >= 2 * (2 * 5 + 1) + 1  # traces and pairs of each result, and the comparison
    for alt, complete, natural, shown in images:
        assert alt
        assert complete
        assert natural > 0
        assert shown > 250


def test_nothing_is_wider_than_the_page(page):
    width, inner = page.execute_script("return [document.scrollingElement.scrollWidth, innerWidth]")
    assert width <= inner


def test_no_text_is_too_small(page):
    assert page.execute_script(SMALL_TEXT) == []


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_stands_out(page, scheme):
    features = [{"name": "prefers-color-scheme", "value": scheme}]
    page.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})
    assert page.execute_script("return matchMedia('(prefers-color-scheme: dark)').matches") == (scheme == "dark")
    assert page.execute_script(LOW_CONTRAST) == []


def test_the_checks_can_fail(page):
    """A page with what they look for: an address to load, a script, a wide line, small and faint text."""
    broken = """
<!DOCTYPE html><html><head><meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; img-src data:; style-src 'unsafe-inline'">
</head><body><script>1</script><img src="data:image/png;base64,AAAA" alt="broken">
<p style="font-size: 8px; width: 3000px; color: #ddd">small</p></body></html>
"""
    file = Path(page.current_url.removeprefix("file://")).with_name("broken.html")
    file.write_text(broken)
    page.get(file.as_uri())
    assert any("Content Security Policy" in entry["message"] for entry in page.get_log("browser"))
    assert page.execute_script("return document.images[0].naturalWidth") == 0
    assert page.execute_script("return document.scrollingElement.scrollWidth > innerWidth")
    assert page.execute_script(SMALL_TEXT) == ["small: 8"]
    assert [line.partition(":")[0] for line in page.execute_script(LOW_CONTRAST)] == ["small"]
